"""The data and the initial weights that the three training scripts share.

Runs on every stack: Python 3.7 and numpy 1.18 upwards.
"""

import gzip
from pathlib import Path

import numpy as np

HERE = Path(__file__).resolve().parent
TRAINING_SAMPLES = 1437
PIXEL_MAXIMUM = 16.0


def load():
    """Loads the handwritten digits.

    Returns:
        x_train, y_train, x_test, y_test: images float32 (n, 64) from 0 to 1, labels int64 (n,).
    """
    with gzip.open(HERE / "digits.csv.gz", "rt") as file:
        table = np.loadtxt(file, delimiter=",", dtype=np.float32)
    x = table[:, :-1] / np.float32(PIXEL_MAXIMUM)
    y = table[:, -1].astype(np.int64)
    split = TRAINING_SAMPLES
    return x[:split], y[:split], x[split:], y[split:]


def initial_weights(shapes, seed=2020):
    """Draws Glorot-uniform kernels and zero biases from numpy, so that every stack begins alike.

    Args:
        shapes: the shapes of `model.get_weights()`.
        seed: of numpy's legacy generator, whose streams are the same in every version.

    Returns:
        float32 arrays of those shapes.
    """
    generator = np.random.RandomState(seed)
    weights = []
    for shape in shapes:
        if len(shape) == 1:
            weights.append(np.zeros(shape, np.float32))
        else:
            limit = np.sqrt(6.0 / sum(shape))
            weights.append(generator.uniform(-limit, limit, shape).astype(np.float32))
    return weights
