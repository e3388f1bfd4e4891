"""Trains small models in every way that a flavour of Keras offers, each recorded into a trace.

`python ways.py FLAVOUR FOLDER [WAY ...]`: writes `FOLDER/<way>.zarr`, what a witness saw into
`FOLDER/<way>.npz`, and prints one JSON object: way -> facts, or {"error": traceback}.
"""

import sys

from training_ways import around_steps, feeding, late, models
from training_ways.bench import WitnessedBench, train

# `late` stands first: when it begins, nobody has imported the recorder.
MODULES = (late, feeding, around_steps, models)

if __name__ == "__main__":
    train(MODULES, WitnessedBench, *sys.argv[1:])
