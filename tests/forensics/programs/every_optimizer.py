"""Trains a small model with every optimizer and option that a stack has, and records each.

Runs on every stack: Python 3.7 and Keras 2.3 upwards. Usage: every_optimizer.py OUT FLAVOUR
FLAVOUR is any of the words keras, tf.keras, one-thread, float64, embedding, other-data (and other
initial weights), joined by commas.
Every trace is OUT/NAME.zarr; the last line printed lists the names.
"""

import sys

import numpy as np

if "tf.keras" in sys.argv[2]:
    from tensorflow import keras
else:
    try:
        import keras
        from keras import layers  # noqa: F401 - a keras without layers is none
    except ImportError:
        from tensorflow import keras

from tracediff_hooks import TraceCallback

FLAVOUR = sys.argv[2].split(",")
BATCH = 8
STEPS = 8
OTHER = "other-data" in FLAVOUR
FLOAT = "float64" if "float64" in FLAVOUR else "float32"
OLD = not keras.__version__.startswith("3.")
STANDALONE_OLD = keras.__version__.startswith("2.3.") and "tf.keras" not in FLAVOUR


def optimizers():
    """Name -> a function that makes the optimizer, for whatever this stack has."""
    make = keras.optimizers
    found = {
        "sgd": lambda: make.SGD(0.05),
        "momentum": lambda: make.SGD(0.05, momentum=0.9),
        "nesterov": lambda: make.SGD(0.05, momentum=0.9, nesterov=True),
        "rmsprop": lambda: make.RMSprop(0.01),
        "adagrad": lambda: make.Adagrad(0.05),
        "adadelta": lambda: make.Adadelta(1.0),
        "adam": lambda: make.Adam(0.01),
        "amsgrad": lambda: make.Adam(0.01, amsgrad=True),
        "adamax": lambda: make.Adamax(0.01),
        "nadam": lambda: make.Nadam(0.01),
        "clipnorm": lambda: make.SGD(0.05, clipnorm=0.05),
        "clipvalue": lambda: make.SGD(0.05, clipvalue=0.01),
    }
    if OLD:
        found["decay"] = lambda: make.SGD(0.05, momentum=0.9, decay=0.1)
        found["adam-decay"] = lambda: make.Adam(0.01, decay=0.1)
    if not STANDALONE_OLD:
        found["rmsprop-centered"] = lambda: make.RMSprop(0.01, centered=True)
        found["rmsprop-momentum"] = lambda: make.RMSprop(0.01, momentum=0.9)
        found["rmsprop-both"] = lambda: make.RMSprop(0.01, momentum=0.9, centered=True)
        found["ftrl"] = lambda: make.Ftrl(0.05)
        found["ftrl-regularised"] = lambda: make.Ftrl(
            0.05,
            l1_regularization_strength=0.001,
            l2_regularization_strength=0.01,
            l2_shrinkage_regularization_strength=0.01,
        )
    if not OLD:
        found["ftrl-beta"] = lambda: make.Ftrl(0.05, beta=0.1)
        found["adamw"] = lambda: make.AdamW(0.01, weight_decay=0.1)
        found["lion"] = lambda: make.Lion(0.01)
        found["sgd-weight-decay"] = lambda: make.SGD(0.05, momentum=0.9, weight_decay=0.1)
        found["ema"] = lambda: make.Adam(0.01, use_ema=True, ema_overwrite_frequency=3)
        found["global-clipnorm"] = lambda: make.SGD(0.05, global_clipnorm=0.05)
        schedule = make.schedules.ExponentialDecay(0.01, 4, 0.5)
        found["schedule"] = lambda: make.Adam(schedule)
    return found


def make_model():
    if "embedding" in FLAVOUR:
        model = keras.models.Sequential(
            [
                keras.layers.Embedding(20, 4, name="table", input_length=5)
                if OLD
                else keras.layers.Embedding(20, 4, name="table"),
                keras.layers.GlobalAveragePooling1D(name="mean"),
                keras.layers.Dense(3, activation="softmax", name="out"),
            ]
        )
        model.build((None, 5))
        return model
    return keras.models.Sequential(
        [
            keras.layers.Dense(9, activation="tanh", name="hidden", input_shape=(6,))
            if OLD
            else keras.layers.Dense(9, activation="tanh", name="hidden"),
            keras.layers.Dense(3, activation="softmax", name="out"),
        ]
    )


def data():
    generator = np.random.RandomState(13 if OTHER else 3)
    if "embedding" in FLAVOUR:
        x = generator.randint(0, 12, (BATCH * STEPS, 5))
    else:
        x = generator.randn(BATCH * STEPS, 6)
    return x.astype(FLOAT), generator.randint(0, 3, BATCH * STEPS)


def train(out, name, optimizer):
    x, y = data()
    model = make_model()
    if not model.built:
        model.build((None, 6))
    generator = np.random.RandomState(15 if OTHER else 5)
    model.set_weights([generator.uniform(-0.4, 0.4, w.shape) for w in model.get_weights()])
    model.compile(optimizer=optimizer, loss="sparse_categorical_crossentropy")
    path = f"{out}/{name}.zarr"
    model.fit(
        x,
        y,
        batch_size=BATCH,
        epochs=1,
        shuffle=False,
        verbose=0,
        callbacks=[TraceCallback(path)],
    )


def prepare():
    if FLOAT == "float64":
        keras.backend.set_floatx("float64")
    if not keras.__version__.startswith("2.2") and not STANDALONE_OLD:
        return  # Only graphs of TensorFlow 1 race
    import tensorflow as tf

    if "one-thread" in FLAVOUR:
        config = tf.compat.v1.ConfigProto(
            intra_op_parallelism_threads=1, inter_op_parallelism_threads=1
        )
        session = tf.compat.v1.Session(config=config)
        if STANDALONE_OLD:
            keras.backend.set_session(session)
        else:
            tf.compat.v1.keras.backend.set_session(session)


if __name__ == "__main__":
    prepare()
    names = []
    for name, make in optimizers().items():
        train(sys.argv[1], name, make())
        names.append(name)
    print(" ".join(names))
