"""An ordinary training script that knows nothing of recording.

Usage: ladder_training.py SEED OPTIMIZER MOMENTUM.
"""

import sys

import numpy as np

try:
    import keras
except ImportError:
    keras = None
if not hasattr(keras, "layers"):
    from tensorflow import keras

SEED, RULE, MOMENTUM = int(sys.argv[1]), sys.argv[2], float(sys.argv[3])

rows = np.random.RandomState(0)
x = rows.randn(96, 6).astype("float32")
y = (x[:, 0] > x[:, 1]).astype("int64") + (x[:, 2] > 0)
order = np.random.RandomState(SEED).permutation(len(x))
x, y = x[order], y[order]

model = keras.models.Sequential(
    [
        keras.layers.Dense(12, activation="tanh", input_shape=(6,), name="hidden"),
        keras.layers.Dense(3, activation="softmax", name="out"),
    ]
)
if RULE == "sgd":
    optimizer = keras.optimizers.SGD(0.1, momentum=MOMENTUM)
else:
    optimizer = getattr(keras.optimizers, RULE)(0.01, epsilon=1e-4)
model.compile(optimizer, "sparse_categorical_crossentropy", metrics=["accuracy"])
draw = np.random.RandomState(SEED)
model.set_weights([draw.uniform(-0.5, 0.5, w.shape).astype("float32") for w in model.get_weights()])
model.fit(x, y, batch_size=16, epochs=3, shuffle=False, verbose=0)
