"""Switches off what layers draw at random, dropout and noise, so that two runs can be compared.

Sets the rates of the frameworks' own layers to 0 while a model is trained. In a graph a layer has
drawn its operations when it is called, so there it has to be told when it is made.
"""

import functools
import sys
from types import ModuleType
from typing import Any, Callable, Dict, Iterator, List, Mapping, Set, Tuple

SETTINGS: Mapping[str, Tuple[str, ...]] = {
    "Dropout": ("rate",),
    "AlphaDropout": ("rate",),
    "GaussianDropout": ("rate",),
    "GaussianNoise": ("stddev",),
    "SimpleRNNCell": ("dropout", "recurrent_dropout"),
    "GRUCell": ("dropout", "recurrent_dropout"),
    "LSTMCell": ("dropout", "recurrent_dropout"),
    "ConvLSTMCell": ("dropout", "recurrent_dropout"),
    "ConvLSTM2DCell": ("dropout", "recurrent_dropout"),
    "MultiHeadAttention": ("_dropout",),
}
"""Which attributes of which classes say how much is drawn; subclasses have them, too."""

GRAPH_MODULES = tuple(
    f"{package}.layers.{name}"
    for package in ("keras", "tensorflow_core.python.keras", "tensorflow.python.keras")
    for name in ("core", "noise", "recurrent", "convolutional_recurrent")
)
"""Where graph stacks define these classes."""

_FRAMEWORKS = ("keras.", "tensorflow.", "tensorflow_core.", "tf_keras.")
_WAS = "_switched_off_by_tracediff"


def switch_off(layer: Any) -> None:
    """Sets what a layer draws to nothing, if it is of a class that is known to heed that."""
    was: Dict[str, float] = {}
    for name in _settings(type(layer)):
        value = getattr(layer, name, None)
        if isinstance(value, (int, float)) and value != 0:
            object.__setattr__(layer, name, type(value)(0))
            if getattr(layer, name) == 0:
                was[name] = value
    if was:
        layer.__dict__[_WAS] = {**layer.__dict__.get(_WAS, {}), **was}


def switch_on(layer: Any) -> None:
    """Gives a layer back what `switch_off` took."""
    for name, value in layer.__dict__.pop(_WAS, {}).items():
        object.__setattr__(layer, name, value)


def switched_off(model: Any) -> Dict[str, Dict[str, float]]:
    """What layers of a model would have drawn: name of the layer -> setting -> its value."""
    found = {}
    for layer in layers_of(model):
        was = getattr(layer, "__dict__", {}).get(_WAS)
        if was:
            found[str(layer.name)] = {name.lstrip("_"): value for name, value in was.items()}
    return found


def layers_of(model: Any) -> List[Any]:
    """Every layer in a model, those inside layers included."""
    flatten = getattr(model, "_flatten_layers", None)
    if flatten is not None:
        return list(flatten())
    return list(_inside(model, set()))


def _inside(layer: Any, seen: Set[int]) -> Iterator[Any]:
    """The layers of graph stacks, which hold others by attributes and lists of them."""
    if id(layer) in seen:
        return
    seen.add(id(layer))
    yield layer
    for value in list(vars(layer).values()):
        for one in value if isinstance(value, (list, tuple)) else (value,):
            if hasattr(one, "get_weights") and hasattr(one, "name") and hasattr(one, "__dict__"):
                yield from _inside(one, seen)


def _settings(cls: type) -> Tuple[str, ...]:
    for one in cls.__mro__:
        if one.__name__ in SETTINGS and one.__module__.startswith(_FRAMEWORKS):
            return SETTINGS[one.__name__]
    return ()


def watch_layers(module: ModuleType) -> None:
    """From now on layers of the module's classes that are made for a graph draw nothing."""
    for name in SETTINGS:
        cls = module.__dict__.get(name)
        if isinstance(cls, type) and cls.__module__ == module.__name__:
            cls.__init__ = _made_off(cls.__init__)  # type: ignore[misc]


def _made_off(init: Callable[..., None]) -> Callable[..., None]:
    @functools.wraps(init)
    def switched_init(self: Any, *args: Any, **kwargs: Any) -> None:
        init(self, *args, **kwargs)
        if not sys.modules["tensorflow"].executing_eagerly():
            switch_off(self)

    return switched_init


RANDOM_CLASSES = ("Dropout", "Noise", "Random")
"""What the class names of layers that draw random numbers contain."""


def draws(line: Mapping[str, Any]) -> bool:
    """Whether a layer draws random numbers at every step, by its class and configuration.

    Args:
        line: a layer as docs/trace-format.md describes it under ``model``.
    """
    config = line.get("config")
    return _draws(str(line.get("class")), config if isinstance(config, Mapping) else {})


def _draws(name: str, config: Mapping[str, Any]) -> bool:
    if any(part in name for part in RANDOM_CLASSES):
        return config.get("rate", config.get("stddev")) not in (0, 0.0)
    if any(config.get(part) for part in ("dropout", "recurrent_dropout")):
        return True
    inner = config.get("layer")
    if isinstance(inner, Mapping) and isinstance(inner.get("config"), Mapping):
        return _draws(str(inner.get("class_name")), inner["config"])
    return False
