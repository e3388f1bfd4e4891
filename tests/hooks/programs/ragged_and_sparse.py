"""Trains on ragged and sparse batches, each once without the recorder and once with it.

`python ragged_and_sparse.py FLAVOUR FOLDER [WAY ...]`: as `more_ways.py`.
"""

import sys

from training_ways import composite
from training_ways.bench import RepeatedBench, train

if __name__ == "__main__":
    train((composite,), RepeatedBench, *sys.argv[1:])
