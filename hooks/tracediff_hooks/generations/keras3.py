"""Keras 3 on TensorFlow: the step is `train_step`, which `make_train_function` compiles.

The trainer reads `train_function` anew each step. As on tf.keras, what the step consumed and
computed leaves it as one more entry of the logs. Keras 3 optimizers are elementwise graph
operations, which Grappler (and XLA, under jit) may rewrite otherwise when a gradient has one more
reader: the one place where watching can change rounding. It is written into the trace; see
docs/capture.md.
"""

import contextlib
import sys
from typing import Any, Dict, Iterator, List, Mapping, Optional, Sequence

import numpy as np

from tracediff_hooks.generations.logs_metrics import metrics
from tracediff_hooks.generations.private_copy import private_copy
from tracediff_hooks.generations.step_taps import (
    TAPS,
    StepTaps,
    optimizers_of,
    replaced,
    set_plainly,
    take_off,
    view,
)
from tracediff_hooks.names import named_layers, optimizer_variable_name, slot_name
from tracediff_hooks.recorder import Key
from tracediff_hooks.session import (
    Session,
    StackDescription,
    StateTensor,
    optimizer_tensor,
    slot_tensor,
    weight_tensors,
)


class Keras3Hook:
    """Records a Keras 3 model on the TensorFlow backend from `attach` to `detach`."""

    def __init__(self, model: Any, session: Session) -> None:
        self._model = model
        self._session = session
        self._plain_train_function = None  # type: Any
        self._expected = False
        self._attached = False
        self._layers = []  # type: List[Any]
        self._state = []  # type: List[StateTensor]
        self._taps = None  # type: Any
        self._known = set()  # type: Set[int]
        self._created = {}  # type: Dict[int, np.ndarray]

    @property
    def _keras(self) -> Any:
        return sys.modules["keras"]

    @property
    def _tensorflow(self) -> Any:
        return sys.modules["tensorflow"]

    @property
    def session(self) -> Session:
        """What the steps are recorded to."""
        return self._session

    def attach(self) -> None:
        """Begins to record: from now on the framework runs the step with the recorder in it."""
        backend = self._keras.backend.backend()
        if backend != "tensorflow":
            self._session.event(
                "unsupported",
                f"nothing is recorded: Keras 3 on the {backend} backend is not supported, "
                "on tensorflow it is",
            )
            return
        self._taps = StepTaps(self._tensorflow, copy=private_copy)
        model = self._model
        self._plain_train_function = model.train_function
        set_plainly(model, "train_step", self._tapped(model.train_step))
        set_plainly(model, "make_train_function", self._make_train_function)
        self._expected = True
        self._attached = True
        optimizer = model.optimizer
        if model.built and optimizer is not None and not optimizer.built:
            # Slots made inside the first trace have no value before the step has run. The JAX
            # trainer of Keras builds the optimizer at this point, too.
            with self._keras.src.backend.name_scope(optimizer.name, caller=optimizer):
                optimizer.build(model.trainable_variables)
        self._find_state()

    def detach(self) -> None:
        """Ends the recording: the model has what the framework made for it again."""
        if not self._attached:
            return
        self._attached = False
        for name in ("train_step", "make_train_function"):
            take_off(self._model, name)
        set_plainly(self._model, "train_function", self._plain_train_function)

    def _make_train_function(self, force: bool = False) -> Any:  # noqa: FBT001, FBT002 - as Keras
        if not self._expected:
            # An exception ended the fit that attached this hook; this is another one.
            self.detach()
            return self._model.make_train_function(force)
        self._expected = False
        model = self._model
        steps = model.steps_per_execution
        set_plainly(model, "train_function", None)
        # Inside the framework's own loop over steps only the last of a group could be seen. Keras
        # reads the number while it builds the function, later versions also while it traces it,
        # which is at the first call.
        with replaced(model, "steps_per_execution", 1):
            type(model).make_train_function(model, force=True)
        function = model.train_function

        def train_function(iterator: Any) -> Any:
            logs = None
            try:
                with replaced(model, "steps_per_execution", 1):
                    for _ in range(steps):
                        logs = self._call(function, iterator)
            except (StopIteration, self._tensorflow.errors.OutOfRangeError):
                if logs is None:
                    raise
            return logs

        set_plainly(model, "train_function", train_function)
        return None

    def _tapped(self, train_step: Any) -> Any:
        def tapped_train_step(data: Any) -> Any:
            with self._taps.collect(), self._probes():
                logs = train_step(data)
            self._session.guard(self._read_created)
            taps = self._session.guard(self._taps.outputs, self._batch(data))
            if not isinstance(logs, dict) or taps is None:
                return logs
            logs = dict(logs)
            logs[TAPS] = taps
            return logs

        return tapped_train_step

    @contextlib.contextmanager
    def _probes(self) -> Iterator[None]:
        """Watches the optimizers' methods and the loss while one step is traced, or run eagerly."""
        taps = self._taps
        with contextlib.ExitStack() as stack:
            for optimizer in optimizers_of(self._model):
                owner = getattr(optimizer, "inner_optimizer", optimizer)
                self._probe_optimizer(stack, optimizer, owner)
            name = "_compute_loss" if hasattr(self._model, "_compute_loss") else "compute_loss"
            compute = getattr(self._model, name)

            def probed_loss(*args: Any, **kwargs: Any) -> Any:
                value = compute(*args, **kwargs)
                taps.saw_loss(value)
                return value

            stack.enter_context(replaced(self._model, name, probed_loss))
            yield

    def _probe_optimizer(self, stack: Any, optimizer: Any, owner: Any) -> None:
        taps = self._taps
        apply = optimizer.apply
        update = owner._backend_update_step

        def probed_apply(grads: Any, trainable_variables: Any = None) -> Any:
            grads = list(grads)
            variables = (
                optimizer._trainable_variables
                if trainable_variables is None
                else list(trainable_variables)
            )
            taps.saw("gradient", list(zip(grads, variables)))
            if self._tensorflow.executing_eagerly() and not optimizer.built:
                self._session.guard(self._build, optimizer, variables)
            return apply(grads, None if trainable_variables is None else variables)

        def probed_update(grads: Any, trainable_variables: Any, learning_rate: Any) -> Any:
            grads, variables = list(grads), list(trainable_variables)
            taps.saw("applied_gradient", list(zip(grads, variables)))
            return update(grads, variables, learning_rate)

        stack.enter_context(replaced(optimizer, "apply", probed_apply))
        stack.enter_context(replaced(owner, "_backend_update_step", probed_update))

    def _build(self, optimizer: Any, variables: Sequence[Any]) -> None:
        """Run eagerly, a step creates its slots and updates them at once: create them before."""
        optimizer.build(variables)
        self._read_created()

    def _read_created(self) -> None:
        """Keeps the initial values of variables that came to be while the step was traced.

        A function that makes variables is traced twice before it runs: they get their values
        between the two.
        """
        known = self._known
        self._find_state()
        with self._tensorflow.init_scope():
            for tensor in self._state:
                if id(tensor.variable) not in known and id(tensor.variable) not in self._created:
                    value = np.array(_native(tensor.variable).numpy())
                    if value.shape == tensor.spec.shape:  # else it has no value yet
                        self._created[id(tensor.variable)] = value

    def _batch(self, data: Any) -> Dict[Key, Any]:
        x, y, weight = self._keras.utils.unpack_x_y_sample_weight(data)
        return self._taps.batch(  # type: ignore[no-any-return]
            x,
            y,
            weight,
            _tensor_names(self._model, "inputs"),
            getattr(self._model, "output_names", None),
        )

    def _call(self, function: Any, iterator: Any) -> Any:
        """One step: state, the framework's own step, state."""
        if not self._session.alive:
            logs = function(iterator)
            return {k: v for k, v in logs.items() if k != TAPS} if isinstance(logs, dict) else logs
        guard = self._session.guard
        before = guard(self._before)
        rate = guard(self._learning_rate)
        logs = function(iterator)
        if isinstance(logs, dict) and TAPS in logs:
            logs = dict(logs)
            taps = logs.pop(TAPS)
            guard(self._record, taps, before, rate, logs)
        elif self._session.alive:
            self._session.event(
                "not-recorded",
                "a custom train_step returned no logs, so its steps are not recorded",
            )
        return logs

    def _record(
        self,
        taps: Mapping[str, Any],
        before: Dict[Key, np.ndarray],
        rate: Any,
        logs: Mapping[str, Any],
    ) -> None:
        for tensor in self._state:
            if tensor.key not in before and id(tensor.variable) in self._created:
                before[tensor.key] = self._created[id(tensor.variable)]
        names = {id(t.variable): t.spec.name for t in self._state if t.spec.role == "weight"}
        observed, aliases = self._taps.values(taps, names)
        for message in self._taps.unrecordable:
            self._session.event("no-gradients", message)
        observed.update(metrics(self._model, self._layers, logs))
        if rate is not None:
            observed["learning_rate", "optimizer/learning_rate"] = rate
        self._session.step(
            self._model,
            self._layers,
            self._state,
            self._describe,
            before=before,
            observed=observed,
            after=self._after(),
            aliases=aliases,
        )
        self._created = {}

    def _find_state(self) -> None:
        if not self._model.built:
            return
        self._layers = named_layers(self._model, _auto_named)
        weights = weight_tensors(self._layers, self._model.trainable_weights, _dtype)
        optimizer = self._model.optimizer
        self._state = weights + _slots(optimizer, weights)

    def _before(self) -> Dict[Key, np.ndarray]:
        state = {t.key: view(_native(t.variable)) for t in self._state}
        return self._session.before(self._model, state)

    def _after(self) -> Dict[Key, np.ndarray]:
        return {t.key: np.asarray(_native(t.variable).numpy()) for t in self._state}

    def _learning_rate(self) -> Optional[np.ndarray]:
        return np.array(self._keras.ops.convert_to_numpy(self._model.optimizer.learning_rate))

    def _describe(self) -> StackDescription:
        tensorflow, keras = self._tensorflow, self._keras
        config = tensorflow.config
        context = sys.modules["tensorflow.python.eager.context"]
        jit = bool(self._model.jit_compile) if self._model.jit_compile != "auto" else None
        environment = {
            "devices": [device.name for device in config.list_physical_devices()],
            "threads": {
                "intra": config.threading.get_intra_op_parallelism_threads(),
                "inter": config.threading.get_inter_op_parallelism_threads(),
            },
            "flags": {
                "eager": bool(self._model.run_eagerly),
                "jit_compile": jit,
                "precision_policy": keras.config.dtype_policy().name,
                "floatx": keras.config.floatx(),
            },
            "tensorflow_seed": context.global_seed(),
            "keras_seed": keras.utils.get_random_seed()
            if hasattr(keras.utils, "get_random_seed")
            else None,
        }
        capture = {
            "gradients": "extra outputs of the compiled step",
            "raw_gradients": True,
            "state": "read between steps",
            "disturbs": "a compiler may round otherwise where a gradient has one more reader",
        }
        label = f"Keras {keras.__version__} on TensorFlow {tensorflow.__version__}"
        return StackDescription("keras3", label, "tensorflow", environment, capture)


def _slots(optimizer: Any, weights: Sequence[StateTensor]) -> List[StateTensor]:
    """The optimizer's variables, those that belong to a weight and those that do not.

    A slot goes by the attribute whose list holds it, one for each trained variable.
    """
    owner = getattr(optimizer, "inner_optimizer", optimizer)
    if not owner.built:
        return []
    by_variable = {id(t.variable): t for t in weights}
    trained = list(owner._trainable_variables)
    found = []  # type: List[StateTensor]
    placed = {id(owner._iterations)}
    placed.update(id(v) for v in [getattr(owner, "_learning_rate", None)])
    for attribute, value in sorted(vars(owner).items()):
        if not _is_slot_list(attribute, value, len(trained)):
            continue
        name = slot_name(type(owner).__name__, attribute)
        for variable, slot in zip(trained, value):
            tensor = by_variable.get(id(variable))
            if tensor is not None and slot is not None and id(slot) not in placed:
                placed.add(id(slot))
                found.append(slot_tensor(tensor, name, slot, _dtype))
    # Most of what Keras 3 keeps for itself is just called "variable".
    attributes = {
        id(value): name for name, value in vars(owner).items() if hasattr(value, "assign")
    }
    for variable in optimizer.variables:
        if id(variable) not in placed:
            name = optimizer_variable_name(attributes.get(id(variable), variable.name))
            found.append(optimizer_tensor(name, variable, _dtype))
    found.append(optimizer_tensor("iteration", owner._iterations, _dtype))
    return found


def _is_slot_list(attribute: str, value: Any, length: int) -> bool:
    return (
        attribute not in ("_trainable_variables", "_variables")
        and isinstance(value, list)
        and len(value) == length > 0
        and all(item is None or hasattr(item, "assign") for item in value)
        and any(item is not None for item in value)
    )


def _tensor_names(model: Any, attribute: str) -> Optional[List[str]]:
    """The names of a functional model's inputs, in its order."""
    structure = getattr(model, "_inputs", None) or getattr(model, attribute, None)
    if not isinstance(structure, (list, tuple)):
        return None
    return [str(getattr(tensor, "name", "")) for tensor in structure]


def _auto_named(
    layer: Any,  # noqa: ARG001 - an `AutoNamed` is called with it; Keras 3 counts by stem alone
    stem: str,
    number: Optional[int],
) -> bool:
    state = sys.modules["keras.src.backend.common.global_state"]
    counts = state.get_global_attribute("object_name_uids") or {}
    return (number or 0) < int(counts.get(stem, 0))


def _native(variable: Any) -> Any:
    return getattr(variable, "value", variable)


def _dtype(variable: Any) -> str:
    return str(variable.dtype)
