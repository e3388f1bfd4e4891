"""Fills layers of every kind with the same numbers, and prints what they put out.

`python weight_layouts.py FLAVOUR`: prints one JSON object: kind of layer -> shapes of its weights,
and what it puts out.
"""

import json
import sys

import numpy as np
from training_kit import Kit, hide_output

IMAGE = np.random.RandomState(1).uniform(-1, 1, (2, 8, 8, 3)).astype("float32")
SEQUENCE = IMAGE.reshape(2, 64, 3)[:, :6]
WORDS = np.arange(6).reshape(2, 3)
GATES = {"recurrent_activation": "sigmoid"}
KINDS = {
    "dense": ("Dense", {"units": 4}, SEQUENCE[:, 0]),
    "conv1d": ("Conv1D", {"filters": 4, "kernel_size": 3}, SEQUENCE),
    "conv2d": ("Conv2D", {"filters": 4, "kernel_size": 3}, IMAGE),
    "transposed": ("Conv2DTranspose", {"filters": 4, "kernel_size": 3}, IMAGE),
    "depthwise": ("DepthwiseConv2D", {"kernel_size": 3, "depth_multiplier": 2}, IMAGE),
    "separable1d": ("SeparableConv1D", {"filters": 4, "kernel_size": 3}, SEQUENCE),
    "separable2d": ("SeparableConv2D", {"filters": 4, "kernel_size": 3}, IMAGE),
    "simple_rnn": ("SimpleRNN", {"units": 4}, SEQUENCE),
    "lstm": ("LSTM", {"units": 4, **GATES}, SEQUENCE),
    "gru_before": ("GRU", {"units": 4, "reset_after": False, **GATES}, SEQUENCE),
    "gru_after": ("GRU", {"units": 4, "reset_after": True, **GATES}, SEQUENCE),
    "gru": ("GRU", {"units": 4}, SEQUENCE),
    "conv_lstm": ("ConvLSTM2D", {"filters": 4, "kernel_size": 3, **GATES}, IMAGE[:, None]),
    "embedding": ("Embedding", {"input_dim": 9, "output_dim": 4}, WORDS),
    "batch_normalization": ("BatchNormalization", {}, IMAGE),
}


def put_out(keras, kind, options, x):
    layer = getattr(keras.layers, kind)(**options)
    dtype = "int32" if x.dtype.kind == "i" else "float32"
    given = keras.layers.Input(x.shape[1:], dtype=dtype)
    model = keras.models.Model(given, layer(given))
    shapes = [weight.shape for weight in layer.get_weights()]
    streams = [np.random.RandomState(100 + place) for place in range(len(shapes))]
    layer.set_weights([s.uniform(0.1, 0.4, shape) for s, shape in zip(streams, shapes)])
    out = np.asarray(model.predict(x, verbose=0), np.float64)
    return {"shapes": shapes, "out": out.reshape(-1).tolist()}


if __name__ == "__main__":
    with hide_output():
        kit = Kit(sys.argv[1])
        answers = {name: put_out(kit.keras, *kind) for name, kind in KINDS.items()}
    print(json.dumps(answers))
