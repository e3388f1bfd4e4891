"""Trains in the ways that are less common, each once without the recorder and once with it.

`python more_ways.py FLAVOUR FOLDER [WAY ...]`: writes `FOLDER/<way>.zarr`, arrays of the training
into `FOLDER/<way>.npz`, and prints one JSON object: way -> facts, or {"error": traceback}. The
fact ``same_weights`` says whether both trainings ended with the same bits.
"""

import sys

from training_ways import blocks, combined, optimizers, outputs, scripts
from training_ways.bench import RepeatedBench, train

MODULES = (blocks, optimizers, outputs, scripts, combined)

if __name__ == "__main__":
    train(MODULES, RepeatedBench, *sys.argv[1:])
