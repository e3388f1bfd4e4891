"""Keras 3 on TensorFlow: the step is `train_step`, which `make_train_function` compiles.

Keras 3 optimizers are elementwise graph operations, which Grappler rewrites otherwise when a
gradient has one more reader; `private_copy` keeps it from that.
"""

import contextlib
import sys
from typing import Any, Callable, Dict, Iterator, List, Optional, Sequence, Tuple

import numpy as np

from tracediff_hooks.describe import StackDescription
from tracediff_hooks.generations.compiled_step import CompiledStepHook
from tracediff_hooks.generations.peeking import FAILING_GROUPS, Group
from tracediff_hooks.generations.private_copy import private_copy
from tracediff_hooks.generations.resumed_step import ResumableStep, compiled_as, resumable
from tracediff_hooks.generations.slot_lists import slot_lists
from tracediff_hooks.generations.step_taps import PLAIN, StepTaps, replaced, view
from tracediff_hooks.names import named_layers, optimizer_variable_name
from tracediff_hooks.state import (
    StateTensor,
    distinct,
    optimizer_tensor,
    slot_tensor,
    weight_tensors,
)


class Keras3Hook(CompiledStepHook):
    """Records a Keras 3 model on the TensorFlow backend from `attach` to `detach`."""

    given_scaled = True
    _resumes = True
    """Whether a step goes on as it was traced, whatever becomes of the model."""
    _resumed: Optional[ResumableStep] = None
    _step: Any = None
    _trained: Optional[List[Any]] = None

    @property
    def _keras(self) -> Any:
        return sys.modules["keras"]

    def _take_up(self, function: Any) -> None:
        super()._take_up(function)
        step = resumable(self._session, self._model) if self._resumes else None
        if step is not None and self.replicas == 1:
            self._resumed, self._trained = step, step.trained
            self._taps, self.used = step.taps, set(step.used)

    def _put_back(self) -> None:
        super()._put_back()
        model, session = self._model, self._session
        if self._resumes and self._step is not None and self._trained is not None:
            session.last_step = ResumableStep(
                model, compiled_as(model), self._step, self._taps, self.used, self._trained
            )

    def _one_step(self) -> Callable[[Any], Any]:
        """The framework's function for one step, new or of the fit before this one."""
        step, self._resumed = self._resumed, None
        if step is not None and resumable(self._session, self._model) is step:
            self._step = step.function
        else:
            self._own.make_train_function()
            self._step = self._model.train_function
        return self._step  # type: ignore[no-any-return]

    def outputs(self, data: Any) -> Dict[str, Any]:
        """What the step that was noted last is to return besides its own result."""
        if self._resumes:
            self._trained = list(self._model.trainable_weights)
        return super().outputs(data)

    def _new_taps(self) -> Optional[StepTaps]:
        return StepTaps(self._tensorflow, copy=private_copy)

    def _prepare(self) -> None:
        model, optimizers = self._model, self.optimizers()
        # With several, which of them the step uses is known with its first trace only.
        optimizer = optimizers[0][1] if len(optimizers) == 1 else None
        # A subclassed model whose `build` was called says so before its layers have weights.
        built = all(getattr(layer, "built", True) for layer in model._flatten_layers())
        # A step of the script's own may train some of the weights, and have slots of these alone.
        own = self._own.has("train_step") or not _is_of_keras(type(model).train_step)
        if built and not own and optimizer is not None and not optimizer.built:
            # Slots made inside the first trace have no value before the step has run. The JAX
            # trainer of Keras builds the optimizer at this point, too.
            with contextlib.ExitStack() as stack:
                if self.replicas > 1:
                    stack.enter_context(model.distribute_strategy.scope())
                scope = self._keras.src.backend.name_scope
                stack.enter_context(scope(optimizer.name, caller=optimizer))
                optimizer.build(model.trainable_variables)

    def _compile(self) -> Callable[[Any], Any]:
        model = self._model
        steps = model.steps_per_execution
        # Inside the framework's own loop over steps only the last of a group could be seen. Keras
        # reads the number while it builds the function, later versions also while it traces it,
        # which is at the first call.
        with replaced(model, "steps_per_execution", 1):
            function = self._one_step()

        group = Group(self._tensorflow, steps, replicas=self.replicas)
        plain: List[Any] = []

        def train_function(iterator: Any) -> Any:
            if group.fails(iterator, eager=bool(model.run_eagerly)):
                self._session.event("unsupported", FAILING_GROUPS.format(self._keras.__version__))
                plain[:] = plain or [self._unwatched()]
                return plain[0](iterator)
            logs = None
            try:
                with replaced(model, "steps_per_execution", 1):
                    for fed in group.batches(iterator):
                        logs = self._call(function, fed)
            except (StopIteration, self._tensorflow.errors.OutOfRangeError):
                if logs is None:
                    raise
            if logs is None:
                raise StopIteration
            return logs

        return train_function

    def _unwatched(self) -> Any:
        """The framework's own function, with nothing of the recorder in it."""
        model = self._model
        with contextlib.ExitStack() as stack:
            stack.enter_context(replaced(model, "train_step", self._plain_train_step))
            stack.enter_context(replaced(model, "train_function", None))
            self._own.make_train_function()
            return model.train_function

    @contextlib.contextmanager
    def _probes(self) -> Iterator[None]:
        name = "_compute_loss" if hasattr(self._model, "_compute_loss") else "compute_loss"
        compute = getattr(self._model, name)

        def probed_loss(*args: Any, **kwargs: Any) -> Any:
            value = compute(*args, **kwargs)
            self._taps.saw_loss(value)
            return value

        with replaced(self._model, name, probed_loss):
            yield

    def _layer_class(self) -> Any:
        return self._keras.layers.Layer

    def _update_methods(self) -> List[Tuple[Any, str]]:
        home = "keras.src.optimizers."
        scaling = sys.modules[home + "loss_scale_optimizer"].LossScaleOptimizer
        return [(sys.modules[home + "base_optimizer"].BaseOptimizer, "apply"), (scaling, "apply")]

    def _pairs(self, optimizer: Any, *args: Any, **kwargs: Any) -> List[Tuple[Any, Any]]:
        given = dict(zip(("grads", "trainable_variables"), args), **kwargs)
        variables = given.get("trainable_variables")
        if variables is None:
            variables = optimizer._trainable_variables
        return list(zip(given["grads"], variables))

    def _probe_optimizer(self, stack: contextlib.ExitStack, optimizer: Any) -> None:
        taps = self._taps
        owner = getattr(optimizer, "inner_optimizer", optimizer)
        apply = optimizer.apply
        update = owner._backend_update_step

        def probed_apply(grads: Any, trainable_variables: Any = None) -> Any:
            grads = list(grads)
            variables = (
                optimizer._trainable_variables
                if trainable_variables is None
                else list(trainable_variables)
            )
            self.used.add(id(optimizer))
            # Keras 3 clips on each replica, and adds up afterwards.
            taps.saw("gradient", list(zip(grads, variables)), partial=self.replicas > 1)
            taps.scratch["raw"] = grads
            self._session.guard(self.note_scale, optimizer, variables)
            if self._eager() and not optimizer.built:
                self._session.guard(self._build, optimizer, variables)
            return apply(grads, None if trainable_variables is None else variables)

        def probed_update(grads: Any, trainable_variables: Any, learning_rate: Any) -> Any:
            grads, variables = list(grads), list(trainable_variables)
            if self._rate_is_called(optimizer):
                self._session.guard(self._note_rate, optimizer, learning_rate)
            if self.replicas > 1:
                taps.scratch["updated"] = variables
            else:
                taps.saw("applied_gradient", list(zip(grads, variables)))
            return update(grads, variables, learning_rate)

        def probed_sum(pairs: Any) -> Any:
            pairs = list(pairs)
            added = list(add(pairs))
            raw = {id(gradient) for gradient in taps.scratch.get("raw", ())}
            for (given, _), (total, _), v in zip(pairs, added, taps.scratch.pop("updated", ())):
                taps.saw("applied_gradient", [(total, v)])
                if id(given) in raw:
                    taps.saw("gradient", [(total, v)])
            return added

        if self.replicas > 1:
            add = owner._all_reduce_sum_gradients
            stack.enter_context(replaced(owner, "_all_reduce_sum_gradients", probed_sum))
        stack.enter_context(replaced(optimizer, "apply", probed_apply))
        stack.enter_context(replaced(owner, "_backend_update_step", probed_update))

    def _eager(self) -> bool:
        """Whether the step runs as it is written, here and now."""
        return bool(self._tensorflow.executing_eagerly())

    def _probe_applied(
        self,
        stack: contextlib.ExitStack,
        optimizer: Any,
        pairs: List[Tuple[Any, Any]],  # noqa: ARG002 - needed where an optimizer does not clip
    ) -> None:
        owner = getattr(optimizer, "inner_optimizer", optimizer)
        update = owner._backend_update_step

        def probed_update(grads: Any, trainable_variables: Any, learning_rate: Any) -> Any:
            self._taps.saw("applied_gradient", list(zip(grads, trainable_variables)))
            return update(grads, trainable_variables, learning_rate)

        stack.enter_context(replaced(owner, "_backend_update_step", probed_update))

    def _create_state(self, optimizer: Any, pairs: List[Tuple[Any, Any]]) -> None:
        if not optimizer.built:
            with self._keras.src.backend.name_scope(optimizer.name, caller=optimizer):
                optimizer.build([v for _, v in pairs])
        self._find_state()

    def _build(self, optimizer: Any, variables: Sequence[Any]) -> None:
        """Run eagerly, a step creates its slots and updates them at once: create them before."""
        optimizer.build(variables)
        self._read_created()

    def parts_of(self, data: Any) -> Tuple[Any, Any, Any]:
        """A batch as x, y, sample weight; None where there is none."""
        return self._keras.utils.unpack_x_y_sample_weight(data)  # type: ignore[no-any-return]

    def input_order(self) -> Optional[Sequence[str]]:
        """The names of the model's inputs in its order, where it knows them."""
        return _tensor_names(self._model, "inputs")

    def _find_state(self) -> None:
        if not self._model.built:
            return
        self._layers = named_layers(self._model, _auto_named)
        trained = self._model.trainable_weights if self._trained is None else self._trained
        weights = weight_tensors(self._layers, trained, _dtype)
        state = list(weights)
        for name, optimizer in self.optimizers():
            state += _slots(name, optimizer, weights)
        self._state = distinct(state)

    def _native(self, variable: Any) -> Any:
        held = getattr(variable, "_value", None)  # None before it was made
        return getattr(variable, "value", variable) if held is None else held

    def _learning_rate(self, optimizer: Any) -> Optional[np.ndarray]:
        plain = self._rate_variable(optimizer)
        if plain is not None:
            return np.array(view(plain))
        owner = getattr(optimizer, "inner_optimizer", optimizer)
        return np.array(self._keras.ops.convert_to_numpy(owner.learning_rate))

    def _rate_is_called(self, optimizer: Any) -> bool:
        rate = getattr(getattr(optimizer, "inner_optimizer", optimizer), "_learning_rate", None)
        return callable(rate) and not hasattr(rate, "get_config") and not hasattr(rate, "assign")

    def _rate_variable(self, optimizer: Any) -> Any:
        owner = getattr(optimizer, "inner_optimizer", optimizer)
        fixed = getattr(getattr(owner, "_learning_rate", None), "_value", None)
        return fixed if type(fixed).__name__ in PLAIN else None

    def _describe(self) -> StackDescription:
        keras = self._keras
        jit = bool(self._model.jit_compile) if self._model.jit_compile != "auto" else None
        environment = self._environment()
        environment["flags"] = {
            "eager": bool(self._model.run_eagerly),
            "jit_compile": jit,
            "precision_policy": keras.config.dtype_policy().name,
            "floatx": keras.config.floatx(),
        }
        environment["keras_seed"] = keras.src.utils.rng_utils.get_random_seed()
        capture = {
            "gradients": "extra outputs of the compiled step",
            "raw_gradients": True,
            "state": "read between steps",
            "disturbs": "nothing known; under jit_compile a compiler may round otherwise",
        }
        label = f"Keras {keras.__version__} on TensorFlow {self._tensorflow.__version__}"
        return StackDescription("keras3", label, "tensorflow", environment, capture)


def _slots(name: str, optimizer: Any, weights: Sequence[StateTensor]) -> List[StateTensor]:
    """The optimizer's variables, those that belong to a weight and those that do not.

    A slot goes by the attribute whose list holds it, one for each trained variable.
    """
    owner = getattr(optimizer, "inner_optimizer", optimizer)
    if not owner.built:
        return []
    by_variable = {id(t.variable): t for t in weights}
    trained = list(owner._trainable_variables)
    found: List[StateTensor] = []
    placed = {id(owner._iterations)}
    placed.update(id(v) for v in [getattr(owner, "_learning_rate", None)])
    if optimizer is not owner:
        # What scales losses inherits a counter and a rate, and uses those of the one inside.
        for inherited in ("_iterations", "_learning_rate"):
            placed.add(id(getattr(optimizer, inherited, None)))
    for kind, slots in slot_lists(owner, len(trained)):
        for variable, slot in zip(trained, slots):
            tensor = by_variable.get(id(variable))
            if slot is not None and id(slot) not in placed:
                placed.add(id(slot))
                if tensor is not None:
                    found.append(slot_tensor(tensor, kind, slot, _dtype))
    # Most of what Keras 3 keeps for itself is just called "variable".
    attributes = {
        id(value): name for name, value in vars(owner).items() if hasattr(value, "assign")
    }
    for variable in optimizer.variables:
        if id(variable) not in placed:
            own = optimizer_variable_name(attributes.get(id(variable), variable.name))
            found.append(optimizer_tensor(own, variable, _dtype, owner=name))
    found.append(optimizer_tensor("iteration", owner._iterations, _dtype, owner=name))
    return found


def _is_of_keras(method: Any) -> bool:
    return str(method.__module__).startswith("keras.src.")


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


def _dtype(variable: Any) -> str:
    return str(variable.dtype)
