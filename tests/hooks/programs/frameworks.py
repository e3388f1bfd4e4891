"""The Keras of whichever stack runs a program, and the few spellings in which the stacks differ."""

from __future__ import annotations

import numpy as np

try:
    import keras
except ImportError:  # TensorFlow 2.3 brings its own and no package of that name
    from tensorflow import keras

__all__ = ["GRAPH", "KERAS3", "TF2", "keras", "optimizer_values", "single_thread", "start"]

GENERATION = int(keras.__version__.split(".")[0])
KERAS3 = GENERATION >= 3
GRAPH = keras.__version__.startswith("2.3")
TF2 = not GRAPH and not KERAS3


def start(seed):
    """Seeds every random stream that the stack draws from."""
    import tensorflow as tf

    np.random.seed(seed)  # noqa: NPY002  the stream that Keras 2.3 shuffles and drops with
    if GRAPH:
        tf.compat.v1.set_random_seed(seed)
    elif KERAS3:
        keras.utils.set_random_seed(seed)
    else:
        tf.random.set_seed(seed)


def single_thread():
    """Lets one operation run at a time: Keras 2.3's Adam races with itself otherwise."""
    import tensorflow as tf

    if GRAPH:
        config = tf.compat.v1.ConfigProto(
            inter_op_parallelism_threads=1, intra_op_parallelism_threads=1
        )
        keras.backend.set_session(tf.compat.v1.Session(config=config))
    else:
        tf.config.threading.set_inter_op_parallelism_threads(1)
        tf.config.threading.set_intra_op_parallelism_threads(1)


def optimizer_values(optimizer):
    """Every variable of an optimizer, in the framework's own order."""
    if KERAS3:
        return [np.array(v) for v in optimizer.variables]
    return [np.array(v) for v in optimizer.get_weights()]
