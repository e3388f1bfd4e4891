"""Trains on two replicas, each way once without the recorder and once with it.

`python on_replicas.py FLAVOUR FOLDER [WAY ...]`: as `more_ways.py`; where `FOLDER/<way>-one.zarr`
stands beside `FOLDER/<way>.zarr`, it is the same training on one device.
"""

import sys

from training_ways import beside_replicas, on_replicas
from training_ways.bench import train
from training_ways.replicas_bench import ReplicasBench

MODULES = (on_replicas, beside_replicas)

if __name__ == "__main__":
    train(MODULES, ReplicasBench, *sys.argv[1:])
