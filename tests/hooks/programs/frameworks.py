"""The Keras of whichever stack runs a program, and the few spellings in which the stacks differ."""

from __future__ import annotations

import importlib
import os

import numpy as np

__all__ = [
    "BACKEND", "GRAPH", "KERAS3", "LEGACY", "NEW_OPTIMIZERS", "STACK", "STANDALONE", "TF2", "keras",
    "optimizer_values", "single_thread", "start",
]  # fmt: skip

STACK = os.environ["TRACEDIFF_STACK"]
if STACK in ("tf1.15", "tf2.3", "tf2.15"):
    from tensorflow import keras
else:
    keras = importlib.import_module("tf_keras" if STACK == "tf-keras" else "keras")

STANDALONE = STACK == "keras2.3"
GRAPH = STACK in ("keras2.3", "tf1.15")
KERAS3 = STACK.startswith("keras3")
BACKEND = os.environ["KERAS_BACKEND"] if KERAS3 else "tensorflow"
NEW_OPTIMIZERS = STACK in ("tf2.15", "tf-keras")
"""Whether the optimizers are those of 2.11 and later; `LEGACY` then has the older ones."""
LEGACY = keras.optimizers.legacy if NEW_OPTIMIZERS else None
TF2 = not GRAPH and not KERAS3


def start(seed):
    """Seeds every random stream that the stack draws from."""
    np.random.seed(seed)  # noqa: NPY002  the stream that Keras 2.3 shuffles and drops with
    if KERAS3:
        keras.utils.set_random_seed(seed)
        return
    import tensorflow as tf

    if GRAPH:
        tf.compat.v1.set_random_seed(seed)
    elif NEW_OPTIMIZERS:
        # From TensorFlow 2.7 on, initialisers draw from a stream of Keras's own.
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
        return [np.array(keras.ops.convert_to_numpy(v)) for v in optimizer.variables]
    if NEW_OPTIMIZERS and not hasattr(optimizer, "get_weights"):
        return [np.array(v) for v in optimizer.variables]
    return [np.array(v) for v in optimizer.get_weights()]
