"""Which Keras trains a model in a graph, and what it does there that cannot be watched."""

import sys
from typing import Any, Optional


def keras_of(model: Any) -> str:
    """The Keras that a model is of, for people."""
    modules = [cls.__module__ for cls in type(model).__mro__]
    if "keras.engine.training" in modules:
        return "Keras " + str(sys.modules["keras"].__version__)
    for module in modules:
        package = module.partition(".src.")[0]
        if package in ("keras", "tf_keras"):  # of TensorFlow 2, its behaviour switched off
            name = "tf.keras" if package == "keras" else package
            return f"{name} {sys.modules[package].__version__}"
    return "tf.keras"


def unsupported(model: Any) -> Optional[str]:
    """Why a training of this generation cannot be watched, or None."""
    if sys.modules["tensorflow"].executing_eagerly():
        return (
            "with eager execution TensorFlow 1.15 trains in loops of its own; leave out "
            "enable_eager_execution() or enable_v2_behavior() to record it"
        )
    strategy = getattr(model, "_distribution_strategy", None)
    if strategy is not None:
        name = type(strategy).__name__.replace("StrategyV1", "Strategy")
        return (
            f"in graph mode a {name} trains in functions of its own; train without it to record it"
        )
    if type(getattr(model, "optimizer", None)).__name__ == "LossScaleOptimizer":
        return (
            "in graph mode loss scaling updates in an optimizer around the model's own; train "
            "without it to record it"
        )
    return None
