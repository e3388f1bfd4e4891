"""Trains on four replicas, each way once without the recorder and once with it.

`python on_four_replicas.py FLAVOUR FOLDER [WAY ...]`: as `on_replicas.py`.
"""

import sys

from training_ways import four_replicas
from training_ways.bench import train
from training_ways.replicas_bench import ReplicasBench


class FourBench(ReplicasBench):
    """A workplace with a strategy of four replicas."""

    replicas = 4


if __name__ == "__main__":
    train((four_replicas,), FourBench, *sys.argv[1:])
