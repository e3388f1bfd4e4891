"""Trains one small model per requested variant of a plain training and records each.

Runs on every stack: Python 3.7 and Keras 2.3 upwards. Usage: known_difference.py OUT KIND
VARIANT... Each variant differs from ``base`` in one known place.
"""

import os
import sys
from pathlib import Path

import numpy as np

from tracediff_hooks import TraceCallback

STACK = os.environ["TRACEDIFF_STACK"]
if STACK == "tf-keras":
    import tf_keras as keras
elif STACK.startswith("tf"):
    from tensorflow import keras
else:
    import keras

BATCH = 16
ROWS = 88  # five full batches and a partial one
EPOCHS = 2


def make_repeatable():
    """Gives Keras 2.3 one thread.

    It reads Adam's step counter in a race with its own increment, which one thread decides.
    """
    if STACK == "keras2.3":
        import tensorflow as tf

        config = tf.ConfigProto(intra_op_parallelism_threads=1, inter_op_parallelism_threads=1)
        keras.backend.set_session(tf.Session(config=config))


def data(kind, variant):
    generator = np.random.RandomState(7)
    if kind == "cnn":
        x = generator.rand(ROWS, 8, 8, 2)
    elif kind == "lstm":
        x = generator.randn(ROWS, 6, 5)
    elif kind == "embedding":
        x = generator.randint(0, 30, (ROWS, 4))
    else:
        x = generator.randn(ROWS, 12)
    x = x.astype("float32")
    y = generator.randint(0, 3, ROWS)
    if variant == "pixel":
        x[3 * BATCH + 5].flat[3] += np.float32(0.01)  # step 3, row 5
    elif variant == "order":
        x[4 * BATCH : 5 * BATCH] = x[4 * BATCH : 5 * BATCH][::-1].copy()
        y[4 * BATCH : 5 * BATCH] = y[4 * BATCH : 5 * BATCH][::-1].copy()
    elif variant == "label":
        y[2 * BATCH + 1] = (y[2 * BATCH + 1] + 1) % 3
    elif variant == "scale":
        x = (x * np.float32(255)).astype("float32")
    elif variant == "half":
        x = x.astype("float16").astype("float32")
    return x, y


def layers(kind, variant):
    make = keras.layers
    activation = "elu" if variant == "activation" else "relu"
    regulariser = keras.regularizers.l2(1e-3) if variant == "regulariser" else None
    if kind == "cnn":
        momentum = 0.9 if variant == "moving" else 0.99
        return [
            make.Conv2D(4, 3, name="conv", input_shape=(8, 8, 2)),
            make.BatchNormalization(name="bn", momentum=momentum),
            make.Activation(activation, name="act"),
            make.Flatten(name="flat"),
            make.Dense(3, activation="softmax", name="out", kernel_regularizer=regulariser),
        ]
    if kind == "lstm":
        return [
            make.LSTM(5, name="rnn", input_shape=(6, 5), recurrent_activation="sigmoid"),
            make.Dense(3, activation="softmax", name="out", kernel_regularizer=regulariser),
        ]
    if kind == "embedding":
        return [
            make.Embedding(30, 4, name="table"),
            make.GlobalAveragePooling1D(name="mean"),
            make.Dense(3, activation="softmax", name="out", kernel_regularizer=regulariser),
        ]
    return [
        make.Dense(10, activation=activation, name="hidden", input_shape=(12,)),
        make.Dense(8, activation="tanh", name="middle", trainable=variant != "frozen"),
        make.Dense(3, activation="softmax", name="out", kernel_regularizer=regulariser),
    ]


def set_weights(model, variant):
    generator = np.random.RandomState(11)
    weights = []
    for weight in model.get_weights():
        drawn = generator.uniform(-0.3, 0.3, weight.shape).astype("float32")
        # Scales and moving variances must stay positive.
        weights.append(weight if np.all(weight == 1) else drawn)
    if variant == "initial":
        weights[0].flat[1] += np.float32(1e-3)
    model.set_weights(weights)


def optimizer(name, variant):
    make = keras.optimizers
    rate = 0.01 * (1.0001 if variant == "rate" else 1.0)
    clip = {"clipvalue": 1e-3} if variant == "clip" else {}
    if name == "adam":
        return make.Adam(rate, epsilon=1e-5 if variant == "epsilon" else 1e-7, **clip)
    if name == "rmsprop":
        return make.RMSprop(rate, **clip)
    momentum = {"momentum": 0.9001, "plain": 0.0}.get(variant, 0.9)
    return make.SGD(rate, momentum=momentum, **clip)


class Meddler(keras.callbacks.Callback):
    """Changes one weight after step 6."""

    def on_train_begin(self, logs=None):
        self.steps = 0

    def on_batch_end(self, batch, logs=None):
        self.steps += 1
        if self.steps == 7:
            layer = self.model.get_layer("out")
            kernel, bias = layer.get_weights()
            layer.set_weights([kernel, bias + np.float32(0.01)])

    on_train_batch_end = on_batch_end


def train(out, kind, name, variant):
    x, y = data(kind, variant)
    model = keras.models.Sequential(layers(kind, variant))
    if kind == "embedding":
        model.build((None, 4))
    loss = "sparse_categorical_crossentropy"
    model.compile(optimizer=optimizer(name, variant), loss=loss, metrics=["accuracy"])
    set_weights(model, variant)
    path = Path(out, f"{kind}-{name}-{variant}.zarr")
    callbacks = [TraceCallback(path)]
    if variant == "external":
        callbacks.append(Meddler())
    options = {}
    if variant == "weighted":
        options["sample_weight"] = np.where(np.arange(ROWS) % 16 == 3, 2.0, 1.0).astype("float32")
    model.fit(
        x,
        y,
        batch_size=BATCH + 1 if variant == "batching" else BATCH,
        epochs=EPOCHS,
        shuffle=False,
        verbose=0,
        callbacks=callbacks,
        **options,
    )


if __name__ == "__main__":
    make_repeatable()
    for variant in sys.argv[4:]:
        train(sys.argv[1], sys.argv[2], sys.argv[3], variant)
