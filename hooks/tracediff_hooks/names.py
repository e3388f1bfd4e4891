"""Canonical names: the same thing has the same name on every stack.

Walks a model of any generation through what all of them share (`layers`, `weights`, `name`),
imports no framework.
"""

import re
from typing import Any, Callable, Dict, Iterator, List, NamedTuple, Optional, Sequence, Set, Tuple

TRANSPARENT = ("cell", "layer")
"""Attributes that hold the one inner layer of a layer: the cell of an RNN, what TimeDistributed
wraps."""

AutoNamed = Callable[[Any, str, Optional[int]], bool]
"""(layer, stem, number) -> whether the framework can have made up the name stem_number."""


class NamedLayer(NamedTuple):
    """A layer, its canonical name, and its weights with theirs."""

    name: str
    layer: Any
    weights: Tuple[Tuple[str, Any], ...]


def snake_case(class_name: str) -> str:
    """The stem of the automatic layer names of Keras (keras/src/utils/naming.py, 3.15)."""
    name = re.sub(r"\W+", "", class_name)
    name = re.sub("(.)([A-Z][a-z0-9]+)", r"\1_\2", name)
    return re.sub("([a-z])([A-Z])", r"\1_\2", name).lower()


def is_model(layer: Any) -> bool:
    """Whether a layer is a model with layers of its own."""
    names = {cls.__name__ for cls in type(layer).__mro__}
    return bool(names & {"Model", "Network", "Sequential", "Functional"}) and hasattr(
        layer, "layers"
    )


def is_metric(layer: Any) -> bool:
    """Whether a layer is a metric: tf.keras takes one that is held by an attribute for a layer."""
    return any(cls.__name__ == "Metric" for cls in type(layer).__mro__)


def weights_of(layer: Any) -> List[Any]:
    """The variables among a layer's weights: tf.keras 2.3 puts lookup tables there, too."""
    weights = getattr(layer, "weights", ())  # a metric of Keras 3 has none
    return [variable for variable in weights if hasattr(variable, "name")]


def holds_tables(model: Any) -> bool:
    """Whether a model's weights include what is no variable, such as the table of a lookup."""
    return len(weights_of(model)) < len(model.weights)


def class_name(layer: Any) -> str:
    """The layer's class without the suffix by which tf.keras tells its generations apart."""
    return re.sub(r"V[12]$", "", type(layer).__name__)


def _stems(layer: Any) -> Tuple[str, ...]:
    if class_name(layer) == "InputLayer":
        return ("input_layer", "input")
    plain = snake_case(class_name(layer))
    own = snake_case(type(layer).__name__)
    return (plain,) if own == plain else (plain, own)


class _Namer:
    """Hands out the canonical names of one level of a model."""

    def __init__(self, auto_named: AutoNamed) -> None:
        self._auto_named = auto_named
        self._counts: Dict[str, int] = {}
        self._taken: Set[str] = set()

    def name(self, layer: Any) -> str:
        given = str(layer.name)
        for stem in _stems(layer):
            match = re.match(re.escape(stem) + r"(?:_(\d+))?$", given)
            if match is None:
                continue
            number = int(match.group(1)) if match.group(1) else None
            if self._auto_named(layer, stem, number):
                return self._numbered(_stems(layer)[0])
        if class_name(layer) == "InputLayer" and given.endswith("_input"):
            return self._numbered("input_layer")
        return self._unique(given)

    def _numbered(self, stem: str) -> str:
        while True:
            count = self._counts.get(stem, 0)
            self._counts[stem] = count + 1
            name = stem if count == 0 else f"{stem}_{count}"
            if name not in self._taken:
                self._taken.add(name)
                return name

    def _unique(self, name: str) -> str:
        if name in self._taken:
            return self._numbered(name)
        self._taken.add(name)
        return name


def named_layers(model: Any, auto_named: AutoNamed) -> List[NamedLayer]:
    """Every layer of a model in execution order; nested models contribute theirs under their name.

    Args:
        model: a Keras model of any generation.
        auto_named: tells whether the framework can have made up a name.

    Returns:
        The layers. Each weight belongs to one of them only: to the first where layers share it.
    """
    seen: Set[int] = set()
    result = list(_walk(model, "", auto_named, seen))
    left = [v for v in weights_of(model) if id(v) not in seen]
    if left:
        # Weights that a subclassed model made for itself.
        name = snake_case(type(model).__name__)
        result.append(
            NamedLayer(name, model, _unique_weights(name, [("", model, v) for v in left]))
        )
    return result


def _walk(model: Any, prefix: str, auto_named: AutoNamed, seen: Set[int]) -> Iterator[NamedLayer]:
    namer = _Namer(auto_named)
    held = [value for value in vars(model).values() if is_metric(value)]
    seen.update(id(variable) for metric in held for variable in weights_of(metric))
    for layer in model.layers:
        if is_metric(layer):
            seen.update(id(variable) for variable in weights_of(layer))
            continue
        name = prefix + namer.name(layer)
        if is_model(layer):
            yield from _walk(layer, name + "/", auto_named, seen)
            rest = [v for v in weights_of(layer) if id(v) not in seen]
            located = [("", layer, variable) for variable in rest]
        else:
            places: Dict[int, Tuple[str, Any]] = {}
            _locate(layer, "", places, set())
            seen.update(v for v, (_, owner) in places.items() if is_metric(owner))
            located = [
                (*places.get(id(variable), ("", layer)), variable)
                for variable in weights_of(layer)
                if id(variable) not in seen
            ]
        seen.update(id(variable) for _, _, variable in located)
        if located or not is_model(layer):
            yield NamedLayer(name, layer, _unique_weights(name, located))


def _locate(layer: Any, path: str, places: Dict[int, Tuple[str, Any]], visited: Set[int]) -> None:
    """Finds the variables of the layers inside a layer.

    Maps each to the attributes that lead there, and to its owner.
    """
    visited.add(id(layer))
    for attribute, inner in sorted(_inner_layers(layer), key=_public_first):
        if id(inner) in visited:
            continue
        part = attribute.lstrip("_")
        step = path if part in TRANSPARENT else path + part + "/"
        _locate(inner, step, places, visited)
        for variable in inner.weights:
            places.setdefault(id(variable), (step, inner))


def _public_first(item: Tuple[str, Any]) -> Tuple[bool, bool, str]:
    attribute = item[0]
    return attribute.lstrip("_") in TRANSPARENT, attribute.startswith("_"), attribute


def _inner_layers(layer: Any) -> Iterator[Tuple[str, Any]]:
    # On torch, layers are modules, which keep modules apart from their other attributes.
    modules = vars(layer).get("_modules") or {}
    for attribute, value in [*vars(layer).items(), *modules.items()]:
        if _is_layer(value):
            yield attribute, value
        elif isinstance(value, (list, tuple)) and attribute not in (
            "_layers",
            "_self_tracked_trackables",
            "_flat_layers",
        ):
            for position, item in enumerate(value):
                if _is_layer(item):
                    yield f"{attribute}/{position}", item


def _is_layer(value: Any) -> bool:
    return hasattr(value, "weights") and any(cls.__name__ == "Layer" for cls in type(value).__mro__)


def variable_name(variable: Any) -> str:
    """What the framework calls a variable, without scopes."""
    return str(variable.name).split(":")[0].split("/")[-1]


WEIGHT_NAMES = {
    ("DepthwiseConv1D", "kernel"): "depthwise_kernel",
    ("DepthwiseConv2D", "kernel"): "depthwise_kernel",
}
"""Class of the layer, what Keras 3 calls a weight -> what the generations before it call it."""


def _local_name(owner: Any, variable: Any) -> str:
    name = variable_name(variable)
    plain = re.sub(r"_\d+$", "", name)
    if plain != name and getattr(owner, plain, None) is variable:
        # Cells of one recurrent layer share a scope in Keras 2.3, where TensorFlow tells equal
        # names apart.
        name = plain
    return WEIGHT_NAMES.get((class_name(owner), name), name)


def _unique_weights(
    layer: str, located: Sequence[Tuple[str, Any, Any]]
) -> Tuple[Tuple[str, Any], ...]:
    result: List[Tuple[str, Any]] = []
    counts: Dict[str, int] = {}
    for path, owner, variable in located:
        name = f"{layer}/{path}{_local_name(owner, variable)}"
        count = counts.get(name, 0)
        counts[name] = count + 1
        result.append((name if count == 0 else f"{name}_{count}", variable))
    return tuple(result)


METRIC_NAMES = {
    "acc": "accuracy",
    "mean_squared_error": "mse",
    "mean_absolute_error": "mae",
    "mean_absolute_percentage_error": "mape",
    "mean_squared_logarithmic_error": "msle",
}
"""What a generation calls a metric -> what the others call it where it is given by its short name.

tf.keras of TensorFlow 1.15 makes `acc` of "accuracy" and spells out "mae".
"""


def metric_name(name: str) -> str:
    """The canonical name of a metric, which the name of an output may precede."""
    for long, short in METRIC_NAMES.items():
        if name == long or name.endswith("_" + long):
            return name[: len(name) - len(long)] + short
    return name


SLOT_NAMES = {
    "SGD": {"momentums": "momentum", "m": "momentum", "moments": "momentum"},
    "RMSprop": {
        "velocities": "rms",
        "momentums": "momentum",
        "average_gradients": "mg",
        "accumulators": "rms",
        "velocity": "rms",
        "average_gradient": "mg",
    },
    "Adagrad": {"accumulators": "accumulator"},
    "Adadelta": {
        "accumulated_grads": "accum_grad",
        "accumulated_delta_vars": "accum_var",
        "accumulators": "accum_grad",
        "delta_accumulators": "accum_var",
    },
    "Adamax": {"v": "u"},
    "Ftrl": {"accumulators": "accumulator", "linears": "linear"},
    "Lion": {"momentums": "m"},
}
"""Per optimizer class, what its slots are called in a framework -> their canonical names."""

ADAM_SLOTS = {
    "momentums": "m",
    "velocities": "v",
    "velocity_hats": "vhat",
    "ms": "m",
    "vs": "v",
    "vhats": "vhat",
    "velocity": "v",
    "momentum": "m",
    "velocity_hat": "vhat",
}


OPTIMIZER_VARIABLES = {
    "momentum_cache": "m_schedule",
    "m_cache": "m_schedule",
    "u_product": "m_schedule",
}
"""What tf.keras and Keras 3 call the one variable of Nadam -> what Keras 2.3 calls it."""


def optimizer_variable_name(framework_name: str) -> str:
    """The canonical name of a variable that an optimizer keeps for all weights together."""
    plain = framework_name.lstrip("_")
    return OPTIMIZER_VARIABLES.get(plain, plain)


def slot_name(optimizer_class: str, framework_slot: str) -> str:
    """The canonical name of a slot; a slot nobody knows keeps its own name.

    Args:
        optimizer_class: the optimizer's class, such as ``"Adam"``.
        framework_slot: the slot's name or the attribute that holds it, such as ``"_velocities"``.
    """
    plain = framework_slot.lstrip("_")
    names = SLOT_NAMES.get(optimizer_class, ADAM_SLOTS)
    return names.get(plain, plain)
