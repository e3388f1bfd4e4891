"""Trains in loops that a script compiles with `torch.compile`, without the recorder and with it.

`python compiled_by_torch.py FLAVOUR FOLDER [WAY ...]`: as `more_ways.py`.
"""

import sys

from training_ways import by_torch_compile
from training_ways.bench import RepeatedBench, train

if __name__ == "__main__":
    train((by_torch_compile,), RepeatedBench, *sys.argv[1:])
