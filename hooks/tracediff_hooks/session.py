"""What all generations share: from a model and the values of a step to the recorder's terms.

A generation's hook knows how to read its framework; this module names what was read, describes the
model, and keeps every error of recording away from training.
"""

import sys
import traceback
from typing import Any, Callable, Dict, List, Mapping, NamedTuple, Optional, Sequence, Tuple

import numpy as np

from tracediff_hooks._tell import tell
from tracediff_hooks.environment import surroundings, versions
from tracediff_hooks.names import NamedLayer, class_name
from tracediff_hooks.recorder import Recorder
from tracediff_hooks.tensors import Key, SparseRows, TensorSpec, Value, recordable

OPTIMIZER_ORDER = 1 << 20
"""Variables of the optimizer as a whole come after those of every layer."""


class StateTensor(NamedTuple):
    """A weight or a slot: its place in the table of tensors and the framework's variable."""

    spec: TensorSpec
    variable: Any

    @property
    def key(self) -> Key:
        """What the recorder knows it by: its role and its name."""
        return self.spec.role, self.spec.name


class StackDescription(NamedTuple):
    """What a generation tells about itself."""

    generation: str
    label: str
    backend: str
    environment: Dict[str, Any]
    capture: Dict[str, Any]


def weight_tensors(
    layers: Sequence[NamedLayer], trainable: Sequence[Any], dtype_of: Callable[[Any], str]
) -> List[StateTensor]:
    """The weights of a model, in execution order."""
    trained = {id(variable) for variable in trainable}
    tensors = []
    for layer in layers:
        for name, variable in layer.weights:
            spec = TensorSpec(
                name,
                "weight",
                dtype_of(variable),
                _shape(variable),
                layer=layer.name,
                order=len(tensors),
                trainable=id(variable) in trained,
                framework_name=_framework_name(variable),
            )
            tensors.append(StateTensor(spec, variable))
    return tensors


def slot_tensor(
    weight: StateTensor, slot: str, variable: Any, dtype_of: Callable[[Any], str]
) -> StateTensor:
    """A slot that belongs to a weight."""
    spec = TensorSpec(
        f"{weight.spec.name}/{slot}",
        "slot",
        dtype_of(variable),
        _shape(variable),
        layer=weight.spec.layer,
        order=weight.spec.order,
        framework_name=_framework_name(variable),
    )
    return StateTensor(spec, variable)


def optimizer_tensor(name: str, variable: Any, dtype_of: Callable[[Any], str]) -> StateTensor:
    """A variable of the optimizer as a whole, such as its step counter."""
    spec = TensorSpec(
        f"optimizer/{name}",
        "slot",
        dtype_of(variable),
        _shape(variable),
        order=OPTIMIZER_ORDER,
        framework_name=_framework_name(variable),
    )
    return StateTensor(spec, variable)


def _shape(variable: Any) -> Tuple[int, ...]:
    shape = variable.shape
    as_list = getattr(shape, "as_list", None)
    return tuple(int(extent) for extent in (as_list() if as_list else shape))


def _framework_name(variable: Any) -> str:
    return str(getattr(variable, "path", None) or variable.name)


def _values(value: Value) -> np.ndarray:
    return value.values if isinstance(value, SparseRows) else np.asarray(value)


def _bytes(spec: TensorSpec) -> int:
    size = int(np.prod(spec.shape or (), dtype=np.int64))
    try:
        return size * np.dtype(spec.dtype).itemsize
    except TypeError:
        return size * 2


class Session:
    """One model being recorded: declares what is new and passes each step on.

    A run is begun when the first step is in hand, because some stacks create weights and slots only
    inside it.
    """

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder
        self._schema: Optional[Tuple[Any, ...]] = None
        self._state_keys: set = set()
        self._model: Any = None
        self._optimizer: Any = None
        self._layers: Dict[str, Tuple[str, int]] = {}
        self._shapes: Dict[str, Tuple[int, ...]] = {}
        self._fit_pending = False
        self._broken = False
        self._said: set = set()
        self._noted: set = set()
        self._early: List[Tuple[str, str]] = []
        self.fit_params: Mapping[str, Any] = {}
        self.epoch = 0
        self.batch = 0

    @property
    def alive(self) -> bool:
        """Whether there is still something to record to."""
        return not self._broken and not self._recorder.failed

    def guard(self, action: Callable[..., Any], *args: Any) -> Any:
        """Runs part of the recording; an error there ends the recording, never the training."""
        return None if self._broken else self.clean_up(action, *args)

    def clean_up(self, action: Callable[..., Any], *args: Any) -> Any:
        """As `guard`, for what has to happen also after the recording has ended."""
        try:
            return action(*args)
        except Exception as error:
            if self._broken:
                return None
            self._broken = True
            frame = traceback.extract_tb(sys.exc_info()[2])[-1]
            message = "{}: {} ({}:{})".format(
                type(error).__name__, error, frame.filename.rsplit("/", 1)[-1], frame.lineno
            )
            self._recorder.event("failure", message)
            tell(
                f"recording to {self._recorder.path} stopped after {self._recorder.steps} steps "
                f"({message}); training goes on."
            )
            self._recorder.pause("failed")
            return None

    def begin_fit(self) -> None:
        """A fit begins: the steps that follow belong to it."""
        self._fit_pending = True
        self._early = []
        self.epoch = self.batch = 0

    def begin_epoch(self, epoch: int) -> None:
        """An epoch begins: its steps are counted from 0."""
        self.epoch = epoch
        self.batch = 0

    def end_fit(self, status: str) -> None:
        """Brings everything to disk. Another fit of the same model continues the run."""
        self._recorder.pause(status)

    def give_way(self) -> None:
        """Ends what another callback, which records the model from now on, finds on it."""
        if self._fit_pending:
            self.event(
                "superseded",
                f"nothing of this fit is recorded to {self._recorder.path}: a model is recorded to "
                "one trace at a time, and another callback came later",
            )
        self._recorder.pause("interrupted")

    def event(self, kind: str, message: str) -> None:
        """Notes something in the run, once, and says it on stderr, once for all runs."""
        if (kind, message) not in self._said:
            self._said.add((kind, message))
            tell(message)
        if self._fit_pending:
            # Which run this fit belongs to is known with its first step.
            self._early.append((kind, message))
        elif (kind, message) not in self._noted:
            self._noted.add((kind, message))
            self._recorder.event(kind, message)

    def before(self, model: Any, state: Mapping[Key, np.ndarray]) -> Dict[Key, np.ndarray]:
        """Keeps of the state before a step what is not recorded yet.

        ``state`` may be overwritten afterwards.
        """
        if self._fit_pending or model is not self._model or set(state) != self._state_keys:
            # Another run may begin with this step, which needs all of it.
            return {key: np.array(value) for key, value in state.items()}
        return self._recorder.changed(state)

    def step(
        self,
        model: Any,
        layers: Sequence[NamedLayer],
        state: Sequence[StateTensor],
        describe: Callable[[], StackDescription],
        *,
        before: Mapping[Key, np.ndarray],
        observed: Mapping[Key, Value],
        after: Mapping[Key, np.ndarray],
        aliases: Sequence[Key] = (),
    ) -> None:
        """Records one step; see `Recorder.record_step`.

        Args:
            model: the model that is trained.
            layers: its layers with their canonical names.
            state: its weights and slots, as they are with this step.
            describe: tells about the stack; called when the step begins a run.
            before: what `before` returned ahead of the step.
            observed: what the step consumed and produced.
            after: the state after the step.
            aliases: applied gradients that are the raw ones.
        """
        observed = self._numbers_of(observed)
        schema = (
            id(model),
            id(model.optimizer),
            *((t.spec.role, t.spec.name, t.spec.shape, t.spec.trainable) for t in state),
        )
        if schema != self._schema:
            self._begin_run(model, layers, state, describe, observed)
            self._schema = schema
            self._state_keys = {tensor.key for tensor in state}
        elif self._fit_pending:
            self._recorder.resume()
        if self._fit_pending:
            self._recorder.begin_fit({k: v for k, v in self.fit_params.items() if k != "metrics"})
            self._fit_pending = False
            for kind, message in self._early:
                self.event(kind, message)
        for key in observed:
            if not self._recorder.declared(*key):
                self._recorder.declare(self._observed_spec(key, observed[key]))
        for role, name in aliases:
            if not self._recorder.declared(role, name):
                self._recorder.declare(self._alias_spec(role, name, observed))
        self._recorder.record_step(
            before=before, observed=observed, after=after, epoch=self.epoch, batch=self.batch
        )
        self.batch += 1

    def _numbers_of(self, observed: Mapping[Key, Value]) -> Mapping[Key, Value]:
        """Leaves out, and says so, what holds no numbers."""
        kept = {}
        for key, value in observed.items():
            if recordable(_values(value)):
                kept[key] = value
            else:
                self.event(
                    "not-recorded",
                    f"{key[1]} is not recorded: its dtype is {_values(value).dtype}, and only "
                    "numbers are",
                )
        return kept

    def _begin_run(
        self,
        model: Any,
        layers: Sequence[NamedLayer],
        state: Sequence[StateTensor],
        describe: Callable[[], StackDescription],
        observed: Mapping[Key, Value],
    ) -> None:
        # Kept, so that no other object gets their identity.
        self._model = model
        self._optimizer = model.optimizer
        self._noted = set()
        self._layers = {
            t.spec.name: (str(t.spec.layer), t.spec.order) for t in state if t.spec.role == "weight"
        }
        self._shapes = {t.spec.name: t.spec.shape or () for t in state}
        stack = describe()
        environment = surroundings()
        environment.update(stack.environment)
        about = {
            "stack": {
                "generation": stack.generation,
                "label": stack.label,
                "backend": stack.backend,
                "keras": stack.label.split(" on ")[0],
                "versions": versions(),
            },
            "environment": environment,
            "model": describe_model(model, layers),
            "optimizer": describe_optimizer(model.optimizer),
            "compile": describe_compile(model),
            "capture": stack.capture,
        }
        size = sum(_bytes(t.spec) for t in state)
        size += sum(_values(value).nbytes for value in observed.values())
        self._recorder.begin_run(
            about, [t.spec for t in state], bytes_per_step=size, expected_steps=self._expected()
        )

    def _expected(self) -> Optional[int]:
        params = self.fit_params
        steps, epochs = params.get("steps"), params.get("epochs")
        if not steps and params.get("samples") and params.get("batch_size"):
            steps = -(-params["samples"] // params["batch_size"])
        return int(steps) * int(epochs) if steps and epochs else None

    def _observed_spec(self, key: Key, value: Value) -> TensorSpec:
        role, name = key
        sparse = isinstance(value, SparseRows)
        array = _values(value)
        layer, order = self._layers.get(name, (None, 0))
        ragged = role in ("input", "label", "sample_weight", "activation")
        shape = self._shapes[name] if sparse else tuple(array.shape)
        return TensorSpec(
            name,
            role,
            array.dtype.name,
            None if ragged else shape,
            layer=layer,
            order=order,
            ragged=ragged,
            sparse=sparse,
        )

    def _alias_spec(self, role: str, name: str, observed: Mapping[Key, Value]) -> TensorSpec:
        spec = self._observed_spec((role, name), observed["gradient", name])
        return spec._replace(same_as="gradient")


def describe_model(model: Any, layers: Sequence[NamedLayer]) -> Dict[str, Any]:
    """The model's graph: layers in execution order with resolved configuration."""
    by_id = {id(entry.layer): entry.name for entry in layers}
    described: List[Dict[str, Any]] = []
    for position, entry in enumerate(layers):
        if entry.layer is model:
            continue
        inputs = _inbound(entry.layer, by_id)
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


def _inbound(layer: Any, by_id: Mapping[int, str]) -> Optional[List[str]]:
    """The layers a layer reads from, or None where the framework keeps no graph."""
    nodes = getattr(layer, "_inbound_nodes", None)
    if not nodes:
        return None
    sources: List[Any] = []
    for node in nodes:
        parents = getattr(node, "parent_nodes", None)
        if parents is not None:
            # A node of Keras 3 knows its operation, one of tf.keras its layer.
            found = [
                getattr(parent, "operation", None) or getattr(parent, "layer", None)
                for parent in parents
            ]
        else:
            inbound = getattr(node, "inbound_layers", None)
            found = inbound if isinstance(inbound, (list, tuple)) else [inbound]
        sources.extend(found)
    names: List[str] = []
    for source in sources:
        name = by_id.get(id(source))
        if name is not None and name not in names:
            names.append(name)
    return names


def _config(thing: Any) -> Any:
    try:
        return plain(thing.get_config())
    except Exception:  # a user's class without get_config is no reason to stop
        return None


def describe_optimizer(optimizer: Any) -> Dict[str, Any]:
    """Class and effective hyperparameters of an optimizer."""
    config = _config(optimizer)
    if isinstance(config, dict):
        for name in ("clipnorm", "clipvalue", "global_clipnorm"):
            if name not in config and isinstance(getattr(optimizer, name, None), (int, float)):
                config[name] = float(getattr(optimizer, name))
    return {"class": type(optimizer).__name__, "config": config}


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


def input_names(
    role: str, values: Any, order: Optional[Sequence[str]] = None
) -> List[Tuple[Key, Any]]:
    """Numbers the tensors of a batch's part: ``input/0``, ``input/1`` ...

    Args:
        role: ``input``, ``label`` or ``sample_weight``.
        values: a tensor, or a nested structure of them; None where the step had none.
        order: for dictionaries, the keys in the order of the model's inputs or outputs.
    """
    found = list(_flatten(values, order))
    return [
        ((role, f"{role}/{position}"), value)
        for position, value in enumerate(found)
        if value is not None
    ]


def _flatten(values: Any, order: Optional[Sequence[str]]) -> List[Any]:
    if isinstance(values, dict):
        keys = sorted(values)
        if order is not None and set(order) == set(values):
            keys = list(order)
        return [leaf for key in keys for leaf in _flatten(values[key], None)]
    if isinstance(values, (list, tuple)):
        return [leaf for value in values for leaf in _flatten(value, None)]
    return [values]
