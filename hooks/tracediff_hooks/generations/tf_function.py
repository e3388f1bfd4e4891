"""tf.keras of TensorFlow 2.3: `Model.make_train_function` builds the step, a `tf.function`."""

import contextlib
import sys
from typing import Any, Callable, Dict, Iterator, List, Optional, Sequence, Tuple

import numpy as np

from tracediff_hooks.describe import StackDescription
from tracediff_hooks.generations.compiled_step import CompiledStepHook
from tracediff_hooks.generations.graph_draws import draws
from tracediff_hooks.generations.kept_step import BEGUN_ANEW, KeptStep, kept_in
from tracediff_hooks.generations.optimizer_v2 import slot_of
from tracediff_hooks.generations.optimizers import inner_of, scale_variables
from tracediff_hooks.generations.step_taps import PLAIN, StepTaps, replaced, set_plainly, view
from tracediff_hooks.names import named_layers, optimizer_variable_name, slot_name, variable_name
from tracediff_hooks.state import (
    StateTensor,
    distinct,
    optimizer_tensor,
    slot_tensor,
    weight_tensors,
)

_SCALING = "mixed_precision.experimental.loss_scale_optimizer"
OTHER_DRAWS = "steps_per_execution: other random numbers are drawn than without the recorder"


class TfFunctionHook(CompiledStepHook):
    """Records a tf.keras model from `attach` to `detach`."""

    _grouped = False
    _draws_otherwise = False
    _draws = _trained_before = False
    _left: Any = None
    """The train function of an earlier recording, until this one has taken up its step."""
    _earlier: Optional[KeptStep] = None
    _step: Any = None
    _recording: Any = None

    @property
    def _backend(self) -> Any:
        """The module that counts the names it makes up."""
        return sys.modules["tensorflow.python.keras.backend"]

    def _new_taps(self) -> StepTaps:
        return StepTaps(self._tensorflow)

    def _take_up(self, function: Any) -> None:
        super()._take_up(function)
        kept = kept_in(function)
        if kept is None:
            self._trained_before = function is not None
            return
        self._plain_train_function = None
        if not kept.suits(self._session):
            self._trained_before = True
            return
        self._earlier, self._taps, self.used, self._draws = kept, kept.taps, set(kept.used), True
        # Until the step is asked for: a model that is compiled anew has another train function.
        self._left = function
        set_plainly(self._model, "train_function", function)

    def _put_back(self) -> None:
        current = self._model.train_function
        if self._left is not None and current is self._left:
            return
        keep = self._draws and not self._draws_otherwise
        if keep and self._plain_train_function is None and current is self._recording is not None:
            kept = KeptStep(
                self._step,
                self._taps,
                self.used,
                self._session,
                self._steps,
                self._model,
                self._tapped(self._plain_train_step),
            )
            set_plainly(self._model, "train_function", kept.unrecorded())
        else:
            super()._put_back()

    def _has_step(self) -> bool:
        return super()._has_step() and self._model.train_function is not self._left

    def _compiled(self) -> Callable[[Any], Any]:
        if self._earlier is not None and self._model.train_function is not self._left:
            self._earlier, self.used, self._draws = None, set(), False
        self._left = None
        self._recording = super()._compiled()
        return self._recording  # type: ignore[no-any-return]

    def _one_step(self) -> Callable[[Any], Any]:
        """The framework's function for one step, new or of an earlier recording."""
        kept, self._earlier = self._earlier, None
        self._step = self._own.make_train_function() if kept is None else kept.function
        return self._step  # type: ignore[no-any-return]

    def _compile(self) -> Callable[[Any], Any]:
        model = self._model
        steps = int(model._steps_per_execution.numpy())
        self._grouped = steps > 1
        if steps == 1:
            function = self._one_step()
        else:
            # Inside the framework's own loop only the last step of a group could be seen.
            model._steps_per_execution.assign(1)
            try:
                function = self._one_step()
            finally:
                model._steps_per_execution.assign(steps)

        def train_function(iterator: Any) -> Any:
            logs = None
            for _ in range(self._steps()):
                logs = self._call(function, iterator)
            return logs

        return train_function

    def _steps(self) -> int:
        """How many steps one call runs: the framework lowers it for a last group, not full."""
        return int(self._model._steps_per_execution.numpy())

    def outputs(self, data: Any) -> Dict[str, Any]:
        """What the step that was noted last is to return besides its own result."""
        graph = self._taps.graph
        self._draws = self._draws or bool(graph is not None and self._session.guard(draws, graph))
        if self._draws and self._trained_before:
            self._session.event("disturbs", BEGUN_ANEW)
        self._draws_otherwise = bool(
            self._grouped and graph is not None and self._session.guard(self._other_draws, graph)
        )
        if self._draws_otherwise:
            self._session.event(
                "disturbs",
                "with steps_per_execution above 1 this model draws other random numbers while it "
                "is recorded, step by step, and in fits after that, than it would without; with "
                "steps_per_execution=1 it draws the same",
            )
        return super().outputs(data)

    def _other_draws(self, graph: Any) -> bool:
        """Whether the framework's own loop over several steps would draw other random numbers.

        It has the step twice, ahead of the loop and in it, each with streams of its own.
        """
        return draws(graph)

    @contextlib.contextmanager
    def _probes(self) -> Iterator[None]:
        loss = getattr(self._model, "compiled_loss", None)
        if loss is None:
            yield
        else:
            with replaced(self._model, "compiled_loss", _ProbedLoss(loss, self._taps)):
                yield

    def _layer_class(self) -> Any:
        return sys.modules["tensorflow.python.keras.engine.base_layer"].Layer

    def _update_methods(self) -> List[Tuple[Any, str]]:
        home = "tensorflow.python.keras."
        classes = [
            sys.modules[home + "optimizer_v2.optimizer_v2"].OptimizerV2,
            sys.modules[home + _SCALING].LossScaleOptimizer,
        ]
        return [(one, "apply_gradients") for one in classes]

    def _pairs(self, optimizer: Any, *args: Any, **kwargs: Any) -> List[Tuple[Any, Any]]:  # noqa: ARG002 - Keras 3 needs it
        return list(args[0] if args else kwargs["grads_and_vars"])

    def _probe_optimizer(self, stack: contextlib.ExitStack, optimizer: Any) -> None:
        taps, outer = self._taps, optimizer
        optimizer = inner_of(optimizer)
        if self._rate_is_called(outer):
            self._note_called_rate(stack, outer)
        aggregate = optimizer._aggregate_gradients
        apply = optimizer.apply_gradients

        def probed_aggregate(pairs: Any) -> Any:
            pairs = list(pairs)
            gradients = aggregate(pairs)
            added = [(g, v) for g, (_, v) in zip(gradients, pairs)]
            taps.saw("gradient", added)
            if not taps.scratch.get("updating"):
                # Keras's own step takes the scale off after this, a script's own before it updates.
                self._session.guard(self.note_scale, outer, [v for _, v in pairs])
            if taps.scratch.pop("added by the update", False):
                taps.saw("applied_gradient", added)
            return gradients

        def probed_apply(pairs: Any, *args: Any, **kwargs: Any) -> Any:
            pairs = list(pairs)
            self.used.add(id(outer))
            if self.replicas > 1 and _adds_up(*args, **kwargs):
                # These are of one replica; the update will use the sum.
                taps.scratch["added by the update"] = True
            else:
                taps.saw("gradient", pairs, unless_seen=True)
                taps.saw("applied_gradient", pairs)
            if self._tensorflow.executing_eagerly():
                self._session.guard(self._create_slots, optimizer, pairs)
            taps.scratch["updating"] = True
            try:
                return apply(pairs, *args, **kwargs)
            finally:
                taps.scratch["updating"] = False

        stack.enter_context(replaced(optimizer, "_aggregate_gradients", probed_aggregate))
        stack.enter_context(replaced(optimizer, "apply_gradients", probed_apply))

    def _probe_applied(
        self,
        stack: contextlib.ExitStack,  # noqa: ARG002 - needed where an optimizer clips by itself
        optimizer: Any,  # noqa: ARG002 - the same
        pairs: List[Tuple[Any, Any]],
    ) -> None:
        # `apply_gradients` of TensorFlow 2.3 does not clip.
        self._taps.saw("applied_gradient", pairs)

    def _create_state(self, optimizer: Any, pairs: List[Tuple[Any, Any]]) -> None:
        optimizer._create_all_weights([v for g, v in pairs if g is not None])
        self._find_state()

    def _create_slots(self, optimizer: Any, pairs: Sequence[Tuple[Any, Any]]) -> None:
        """Run eagerly, a step creates its slots and updates them at once: create them before."""
        optimizer._create_all_weights([v for g, v in pairs if g is not None])
        self._read_created()

    def parts_of(self, data: Any) -> Tuple[Any, Any, Any]:
        """A batch as x, y, sample weight; None where there is none."""
        return _unpack(data)

    def _find_state(self) -> None:
        if not self._model.built:
            return
        self._layers = named_layers(self._model, self._auto_named)
        weights = weight_tensors(self._layers, self._model.trainable_weights, _dtype)
        state = list(weights)
        for name, optimizer in self.optimizers():
            state += legacy_slots(name, optimizer, weights)
        self._state = distinct(state)

    def _auto_named(
        self,
        layer: Any,  # noqa: ARG002 - an `AutoNamed` is called with it; tf.keras counts by stem alone
        stem: str,
        number: Optional[int],
    ) -> bool:
        uids = self._backend.PER_GRAPH_OBJECT_NAME_UIDS
        if stem == "input":
            # Inputs alone are counted from 1, and under a key of their own (input_layer.py).
            counts = [names.get(stem, 0) for names in list(uids.values())]
            return number is not None and 1 <= number <= max(counts or [0])
        counts = [names.get(("", stem), 0) for names in list(uids.values())]
        return bool((number or 0) < max(counts or [0]))

    def _native(self, variable: Any) -> Any:
        return variable

    def _learning_rate(self, optimizer: Any) -> Optional[np.ndarray]:
        optimizer = inner_of(optimizer)
        if type(optimizer).__name__ == "Nadam":
            # Its `decay` is the schedule of the momentum (optimizer_v2/nadam.py, TensorFlow 2.3).
            rate = optimizer._get_hyper("learning_rate", self._tensorflow.float32)
            return np.array(rate.numpy())
        plain = self._rate_variable(optimizer)
        if plain is not None:
            return np.array(view(plain))
        if "learning_rate" not in optimizer._hyper:
            return None
        return np.array(optimizer._decayed_lr(self._tensorflow.float32).numpy())

    def _rate_is_called(self, optimizer: Any) -> bool:
        inner = inner_of(optimizer)
        rate = getattr(inner, "_hyper", {}).get("learning_rate")
        # What `decay` makes of it nobody calls.
        return callable(rate) and not hasattr(rate, "get_config") and not inner._initial_decay

    def _note_called_rate(self, stack: contextlib.ExitStack, optimizer: Any) -> None:
        settings = inner_of(optimizer)._hyper
        rate = settings["learning_rate"]

        def noted_rate() -> Any:
            value = rate()
            self._session.guard(self._note_rate, optimizer, value)
            return value

        settings["learning_rate"] = noted_rate
        stack.callback(settings.__setitem__, "learning_rate", rate)

    def _rate_variable(self, optimizer: Any) -> Any:
        optimizer = inner_of(optimizer)
        fixed = optimizer._hyper.get("learning_rate")
        plain = type(fixed).__name__ in PLAIN and fixed.dtype.name == "float32"
        decays = optimizer._initial_decay or type(optimizer).__name__ == "Nadam"
        return fixed if plain and not decays else None

    def _disturbs(self) -> str:
        begun_anew = self._draws and self._trained_before
        return "other random numbers are drawn than without" if begun_anew else "nothing known"

    def _describe(self) -> StackDescription:
        tensorflow = self._tensorflow
        policy = tensorflow.keras.mixed_precision.experimental.global_policy()
        environment = self._environment()
        environment["flags"] = {
            "eager": bool(self._model.run_eagerly),
            "jit_compile": False,
            "jit": str(tensorflow.config.optimizer.get_jit()),
            "precision_policy": policy.name,
            "floatx": tensorflow.keras.backend.floatx(),
        }
        capture = {
            "gradients": "extra outputs of the compiled step",
            "raw_gradients": True,
            "state": "read between steps",
            "disturbs": OTHER_DRAWS if self._draws_otherwise else self._disturbs(),
        }
        label = f"tf.keras on TensorFlow {tensorflow.__version__}"
        return StackDescription("tf-function", label, "tensorflow", environment, capture)


def _adds_up(
    name: Any = None,  # noqa: ARG001 - called as `apply_gradients` is
    experimental_aggregate_gradients: bool = True,  # noqa: FBT001, FBT002 - the same
    **_others: Any,
) -> bool:
    """Whether `apply_gradients`, called with these arguments, adds up those of all replicas."""
    return experimental_aggregate_gradients


def legacy_slots(owner: str, optimizer: Any, weights: Sequence[StateTensor]) -> List[StateTensor]:
    """The slots of an optimizer, and what it keeps for all weights together."""
    found: List[StateTensor] = []
    inner = inner_of(optimizer)
    for tensor in weights:
        for slot in optimizer.get_slot_names():
            variable = slot_of(inner, tensor.variable, slot)
            if variable is not None:
                name = slot_name(type(inner).__name__, slot)
                found.append(slot_tensor(tensor, name, variable, _dtype))
    for own, variable in scale_variables(optimizer):
        found.append(optimizer_tensor(own, variable, _dtype, owner=owner))
    placed = {id(t.variable) for t in found}
    counter = inner._iterations
    for variable in optimizer.weights:
        if id(variable) not in placed and variable is not counter and not variable.shape.as_list():
            name = optimizer_variable_name(variable_name(variable))
            found.append(optimizer_tensor(name, variable, _dtype, owner=owner))
    if counter is not None:
        found.append(optimizer_tensor("iteration", counter, _dtype, owner=owner))
    return found


class _ProbedLoss:
    """Stands for the model's compiled loss during one trace and notes the loss it returns."""

    def __init__(self, loss: Any, taps: StepTaps) -> None:
        self.__dict__.update(loss=loss, taps=taps)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        value = self.loss(*args, **kwargs)
        self.taps.saw_loss(value)
        return value

    def __getattr__(self, name: str) -> Any:
        return getattr(self.__dict__["loss"], name)


def _unpack(data: Any) -> Tuple[Any, Any, Any]:
    """A batch as x, y, sample_weight.

    As `unpack_x_y_sample_weight` does it (data_adapter.py, TensorFlow 2.3).
    """
    if not isinstance(data, tuple):
        return data, None, None
    return tuple(data[:3]) + (None,) * (3 - len(data[:3]))


def _dtype(variable: Any) -> str:
    return str(variable.dtype.name)
