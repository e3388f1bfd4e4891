"""Trains Keras 3 on JAX on two devices, each way without the recorder, with it, and on one device.

`python data_parallel.py FLAVOUR FOLDER [WAY ...]`: as `more_ways.py`; `FOLDER/<way>-one.zarr` is
the same training on one device.
"""

import os
import sys

# JAX reads it when it is imported.
os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=2"

from training_ways import distributed
from training_ways.bench import RepeatedBench, train

if __name__ == "__main__":
    train([distributed], RepeatedBench, *sys.argv[1:])
