"""One file per framework generation; the class of the user's model chooses."""

from importlib import import_module
from typing import Any

_BY_MODEL_CLASS = (
    # module in which the model's base class is defined, a method that tells generations apart that
    # share the module's name, file here, class there
    ("keras.engine.training", "_make_train_function", "keras_graph", "KerasGraphHook"),
    (
        "tensorflow_core.python.keras.engine.training",
        "_make_train_function",
        "keras_graph",
        "KerasGraphHook",
    ),
    (
        "tensorflow.python.keras.engine.training",
        "_make_train_function",
        "keras_graph",
        "KerasGraphHook",
    ),
    (
        "tensorflow.python.keras.engine.training",
        "make_train_function",
        "tf_function",
        "TfFunctionHook",
    ),
    # With TensorFlow 2's behaviour switched off, the models of these are graph models again.
    ("keras.src.engine.training", "_make_train_function", "keras_graph", "KerasGraphHook"),
    ("tf_keras.src.engine.training", "_make_train_function", "keras_graph", "KerasGraphHook"),
    ("keras.src.engine.training", "make_train_function", "tf_keras", "TfKerasHook"),
    ("tf_keras.src.engine.training", "make_train_function", "tf_keras", "TfKerasHook"),
    # Keras 3 chooses its trainer, a base class of every model, by the backend.
    ("keras.src.backend.tensorflow.trainer", "make_train_function", "keras3", "Keras3Hook"),
    ("keras.src.backend.jax.trainer", "make_train_function", "keras3_jax", "Keras3JaxHook"),
    ("keras.src.backend.torch.trainer", "make_train_function", "keras3_torch", "Keras3TorchHook"),
)


class UnsupportedModel(TypeError):
    """No hook knows this kind of model."""


def hook_for(model: Any, session: Any) -> Any:
    """Makes the hook that fits the model's class.

    Raises:
        UnsupportedModel: the model comes from a framework, or a version, that no hook knows.
    """
    modules = [cls.__module__ for cls in type(model).__mro__]
    for module, method, file, name in _BY_MODEL_CLASS:
        if module in modules and hasattr(type(model), method):
            hook = getattr(import_module(f"{__name__}.{file}"), name)
            return hook(model, session)
    raise UnsupportedModel(
        f"a model of class {type(model).__module__}.{type(model).__name__} cannot be recorded; "
        "supported are Keras 2.3 on TensorFlow 1.15, tf.keras of TensorFlow 1.15, 2.3 and 2.15, "
        "tf_keras, and Keras 3 on TensorFlow, JAX and torch"
    )
