"""Describes what is trained, as JSON can hold it: stack, model, optimizer, compile arguments."""

import contextlib
from typing import Any, Dict, Iterator, List, NamedTuple, Optional, Sequence

import numpy as np

from tracediff_hooks import v1_optimizer
from tracediff_hooks.edges import Edges
from tracediff_hooks.environment import surroundings, versions
from tracediff_hooks.names import NamedLayer, class_name


class StackDescription(NamedTuple):
    """What a generation tells about itself."""

    generation: str
    label: str
    backend: str
    environment: Dict[str, Any]
    capture: Dict[str, Any]


def describe_stack(stack: StackDescription) -> Dict[str, Any]:
    """The attributes `stack` and `environment` of a run."""
    environment = surroundings()
    environment.update(stack.environment)
    return {
        "stack": {
            "generation": stack.generation,
            "label": stack.label,
            "backend": stack.backend,
            "keras": stack.label.split(" on ")[0],
            "versions": versions(),
        },
        "environment": environment,
    }


def describe_model(model: Any, layers: Sequence[NamedLayer]) -> Dict[str, Any]:
    """The model's graph: layers in execution order with resolved configuration."""
    edges = Edges(model, layers)
    described: List[Dict[str, Any]] = []
    for position, entry in enumerate(layers):
        if entry.layer is model:
            continue
        inputs = edges.into(entry)
        if inputs is None:
            inputs = [described[-1]["name"]] if described and position else []
        described.append(
            {
                "name": entry.name,
                "framework_name": str(entry.layer.name),
                "class": class_name(entry.layer),
                "config": _config(entry.layer),
                "trainable": bool(entry.layer.trainable),
                "inputs": inputs,
                "weights": [name for name, _ in entry.weights],
            }
        )
    return {"name": str(model.name), "class": type(model).__name__, "layers": described}


def _config(thing: Any) -> Any:
    try:
        config = plain(thing.get_config())
    except Exception:  # a user's class without get_config is no reason to stop
        return None
    # What a loss hands to its function; Keras 3 leaves it out of some, such as Huber's delta.
    handed = getattr(thing, "_fn_kwargs", None)
    if isinstance(config, dict) and isinstance(handed, dict):
        config = {**plain(handed), **config}
    return config


def describe_optimizer(optimizer: Any, rate: Optional[float] = None) -> Dict[str, Any]:
    """Class and effective hyperparameters of an optimizer.

    Args:
        optimizer: it.
        rate: what the function that is its learning rate gave to the step, where it is one.
    """
    inner = v1_optimizer.wrapped(optimizer)
    if inner is not None:
        return {"class": type(inner).__name__, "config": v1_optimizer.settings(inner)}
    updating = getattr(optimizer, "_optimizer", None) or optimizer  # inside one that scales losses
    with _uncalled(getattr(updating, "_hyper", None), rate):
        config = _config(optimizer)
    if isinstance(config, dict):
        for name in ("clipnorm", "clipvalue", "global_clipnorm"):
            if name not in config and isinstance(getattr(optimizer, name, None), (int, float)):
                config[name] = float(getattr(optimizer, name))
    return {"class": type(optimizer).__name__, "config": config}


@contextlib.contextmanager
def _uncalled(settings: Any, rate: Optional[float]) -> Iterator[None]:
    """Keeps `get_config` of TensorFlow 2 from calling functions of the script, which may count."""
    functions = {}
    if isinstance(settings, dict):
        functions = {
            name: value
            for name, value in settings.items()
            if callable(value) and not hasattr(value, "get_config")
        }
    try:
        for name, function in functions.items():
            known = rate if name == "learning_rate" else None
            settings[name] = getattr(function, "__name__", "") if known is None else known
        yield
    finally:
        if functions:
            settings.update(functions)


def describe_compile(model: Any) -> Dict[str, Any]:
    """Compile arguments, as far as the generation keeps them."""
    compiled = getattr(model, "_compile_config", None)
    config = getattr(compiled, "config", None)
    arguments = dict(config) if isinstance(config, dict) else {}
    for name in ("loss", "metrics", "loss_weights", "weighted_metrics", "sample_weight_mode"):
        if name not in arguments and hasattr(model, name):
            arguments[name] = getattr(model, name)
    # tf.keras of TensorFlow 2.3 keeps them with what it compiled (compile_utils.py).
    for owner, name in (
        ("compiled_loss", "loss_weights"),
        ("compiled_metrics", "metrics"),
        ("compiled_metrics", "weighted_metrics"),
    ):
        given = "_user_" + name
        if compiled is None and hasattr(getattr(model, owner, None), given):
            arguments[name] = getattr(getattr(model, owner), given)
    for name in ("run_eagerly", "jit_compile", "auto_scale_loss"):
        if hasattr(model, name):
            arguments[name] = getattr(model, name)
    steps = getattr(model, "steps_per_execution", None) or getattr(
        model, "_steps_per_execution", None
    )
    if steps is not None:
        arguments["steps_per_execution"] = int(getattr(steps, "numpy", lambda: steps)())
    arguments.pop("optimizer", None)
    return {name: plain(value) for name, value in arguments.items()}


def plain(value: Any) -> Any:
    """A value as JSON can hold it: numbers, texts, lists, dictionaries.

    Objects stand there by their name and config.
    """
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, np.ndarray):
        return value.tolist() if value.size <= 64 else f"array{value.shape}"
    if isinstance(value, (np.generic,)):
        return value.item()
    if hasattr(value, "get_config"):
        return {"class_name": type(value).__name__, "config": _config(value)}
    if hasattr(value, "as_list"):
        return plain(value.as_list())
    if isinstance(getattr(value, "name", None), str):
        return value.name
    return getattr(value, "__name__", None) or repr(value)
