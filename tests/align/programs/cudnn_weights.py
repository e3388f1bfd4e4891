"""Converts weights of recurrent layers as Keras 2.3 does when it loads them: to cuDNN and back.

Usage: cudnn_weights.py OUT.npz
"""

import sys

import numpy as np
from keras.engine.saving import _convert_rnn_weights

UNITS, INPUTS = 3, 5


def layer(kind, **attributes):
    """Something of that class name, which is all that the conversion asks for."""
    return type(kind, (), attributes)()


def main(path):
    generator = np.random.RandomState(5)
    found = {}
    for plain, gates, bias in (("LSTM", 4, (12,)), ("GRU", 3, (2, 9))):
        shapes = [(INPUTS, UNITS * gates), (UNITS, UNITS * gates), bias]
        weights = [generator.randn(*shape).astype("float32") for shape in shapes]
        fast = "CuDNN" + plain
        turned = _convert_rnn_weights(layer(fast), weights)
        back = _convert_rnn_weights(layer(plain, reset_after=True), turned)
        for place, name in enumerate(("kernel", "recurrent_kernel", "bias")):
            assert np.allclose(back[place], weights[place])
            found[plain + "/" + name] = weights[place]
            found[fast + "/" + name] = np.asarray(turned[place])
    np.savez(path, **{key.replace("/", "."): value for key, value in found.items()})


if __name__ == "__main__":
    main(sys.argv[1])
