"""Trains in the ways that few scripts take, each once without the recorder and once with it.

`python uncommon_ways.py FLAVOUR FOLDER [WAY ...]`, as more_ways.py.
"""

import sys

from training_ways import in_graphs, uncommon
from training_ways.bench import RepeatedBench, train

if __name__ == "__main__":
    train((uncommon, in_graphs), RepeatedBench, *sys.argv[1:])
