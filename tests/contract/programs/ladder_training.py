"""An ordinary training script that knows nothing of recording.

Usage: ladder_training.py NAME=VALUE... with the names of `CHOICES`; those left out are as there.
"""

import sys

import numpy as np

try:
    import keras
except ImportError:
    keras = None
if not hasattr(keras, "layers"):
    from tensorflow import keras

CHOICES = {
    "seed": 1,  # of the initial weights
    "order": 1,  # of the samples
    "rule": "sgd",
    "momentum": 0.9,
    "accumulator": None,  # that Adagrad begins with
    "bn": None,  # epsilon of a batch normalisation, which is there where this is given
    "bn_momentum": 0.9,
    "dropout": 0.0,
    "activation": "tanh",
    "label": 0,  # added to every tenth label, modulo 3
    "fit": 1,
}
for argument in sys.argv[1:]:
    name, _, value = argument.partition("=")
    if name not in CHOICES:
        raise SystemExit(f"no such choice: {name}")
    CHOICES[name] = value if name in ("rule", "activation") else float(value)

rows = np.random.RandomState(0)
x = rows.randn(96, 6).astype("float32")
y = (x[:, 0] > x[:, 1]).astype("int64") + (x[:, 2] > 0)
y[::10] = (y[::10] + int(CHOICES["label"])) % 3
order = np.random.RandomState(int(CHOICES["order"])).permutation(len(x))
x, y = x[order], y[order]

L = keras.layers
layers = [L.Dense(12, activation=CHOICES["activation"], input_shape=(6,), name="hidden")]
if CHOICES["bn"] is not None:
    layers.append(
        L.BatchNormalization(epsilon=CHOICES["bn"], momentum=CHOICES["bn_momentum"], name="bn")
    )
if CHOICES["dropout"]:
    layers.append(L.Dropout(CHOICES["dropout"], name="drop"))
layers.append(L.Dense(3, activation="softmax", name="out"))
model = keras.models.Sequential(layers)
if CHOICES["rule"] == "sgd":
    optimizer = keras.optimizers.SGD(0.1, momentum=CHOICES["momentum"])
elif CHOICES["accumulator"] is not None:
    optimizer = keras.optimizers.Adagrad(0.1, initial_accumulator_value=CHOICES["accumulator"])
else:
    optimizer = getattr(keras.optimizers, CHOICES["rule"])(0.01, epsilon=1e-4)
model.compile(optimizer, "sparse_categorical_crossentropy", metrics=["accuracy"])
draw = np.random.RandomState(int(CHOICES["seed"]))
for layer in model.layers:
    if layer.name in ("hidden", "out"):
        drawn = [draw.uniform(-0.5, 0.5, w.shape).astype("float32") for w in layer.get_weights()]
        layer.set_weights(drawn)
if CHOICES["fit"]:
    model.fit(x, y, batch_size=16, epochs=3, shuffle=False, verbose=0)
