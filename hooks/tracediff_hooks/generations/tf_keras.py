"""tf.keras of TensorFlow 2.15 and tf_keras: the step of TensorFlow 2.3, with other optimizers.

The optimizers of 2.11 and later are elementwise graph operations, as those of Keras 3 are, and keep
their slots in lists; those called legacy are the optimizers of TensorFlow 2.3.
"""

import contextlib
import sys
from typing import Any, Callable, Dict, Iterator, List, Mapping, Optional, Sequence, Set, Tuple

import numpy as np

from tracediff_hooks.describe import StackDescription
from tracediff_hooks.generations.optimizers import inner_of, scale_variables
from tracediff_hooks.generations.private_copy import private_copy
from tracediff_hooks.generations.slot_lists import slot_lists
from tracediff_hooks.generations.step_taps import PLAIN, StepTaps, replaced
from tracediff_hooks.generations.tf_function import (
    TfFunctionHook,
    _dtype,
    _ProbedLoss,
    legacy_slots,
)
from tracediff_hooks.names import named_layers, optimizer_variable_name
from tracediff_hooks.state import (
    StateTensor,
    distinct,
    optimizer_tensor,
    slot_tensor,
    weight_tensors,
)
from tracediff_hooks.tensors import Key, Value


class TfKerasHook(TfFunctionHook):
    """Records a model of tf.keras 2.15 or tf_keras from `attach` to `detach`."""

    @property
    def _package(self) -> str:
        """`keras` or `tf_keras`: the package that defines the model's base class."""
        for cls in type(self._model).__mro__:
            if cls.__module__.endswith("keras.src.engine.training"):
                return cls.__module__.split(".")[0]
        return "tf_keras"

    @property
    def _backend(self) -> Any:
        return sys.modules[self._package + ".src.backend"]

    def _new_taps(self) -> StepTaps:
        return StepTaps(self._tensorflow, copy=private_copy)

    def _compile(self) -> Callable[[Any], Any]:
        model = self._model
        if getattr(model, "_steps_per_execution", None) is not None:
            # The tuner chooses the number of steps while training; the loop below follows it.
            with replaced(model, "autotune_steps_per_execution", value=False):
                return super()._compile()
        function = self._one_step()
        return lambda iterator: self._call(function, iterator)

    def _steps(self) -> int:
        number = getattr(self._model, "_steps_per_execution", None)
        return 1 if number is None else int(number.numpy())

    def _other_draws(self, graph: Any) -> bool:  # noqa: ARG002 - TensorFlow 2.3 needs it
        """Never: the loop has the step once, and the seeds of a graph are counted, not placed."""
        return False

    @contextlib.contextmanager
    def _probes(self) -> Iterator[None]:
        """Watches the optimizers' methods and the loss while one step is traced, or run eagerly."""
        model, taps = self._model, self._taps
        with contextlib.ExitStack() as stack:
            loss = model.compiled_loss
            if loss is not None:
                stack.enter_context(replaced(model, "compiled_loss", _ProbedLoss(loss, taps)))
            compute = model.compute_loss

            def probed_loss(*args: Any, **kwargs: Any) -> Any:
                value = compute(*args, **kwargs)
                taps.saw_loss(value)
                return value

            stack.enter_context(replaced(model, "compute_loss", probed_loss))
            yield

    def _layer_class(self) -> Any:
        return sys.modules[self._package + ".src.engine.base_layer"].Layer

    def _update_methods(self) -> List[Tuple[Any, str]]:
        of_optimizers = sys.modules[self._package + ".src.optimizers.optimizer"]
        legacy = sys.modules[self._package + ".src.optimizers.legacy.optimizer_v2"]
        scaling = sys.modules[self._package + ".src.mixed_precision.loss_scale_optimizer"]
        classes = of_optimizers.Optimizer, legacy.OptimizerV2, scaling.LossScaleOptimizer
        return [(one, "apply_gradients") for one in (*classes, scaling.LossScaleOptimizerV3)]

    def _probe_applied(
        self,
        stack: contextlib.ExitStack,
        optimizer: Any,
        pairs: List[Tuple[Any, Any]],
    ) -> None:
        taps, optimizer = self._taps, inner_of(optimizer)
        given = {id(v): g for g, v in pairs}
        added: Set[int] = set()

        def saw(pairs: List[Tuple[Any, Any]]) -> None:
            # Gradients of all replicas are added, which makes other tensors of those of one, too.
            taps.saw(
                "applied_gradient", [(given[id(v)] if id(g) in added else g, v) for g, v in pairs]
            )

        if _is_legacy(optimizer):
            transform = optimizer._transform_gradients

            def probed_transform(pairs: Any) -> Any:
                pairs = list(pairs)
                added.update(id(g) for g, _ in pairs)
                transformed = list(transform(pairs))
                saw([(g, v) for g, v in transformed if id(v) in given])
                return transformed

            stack.enter_context(replaced(optimizer, "_transform_gradients", probed_transform))
            return
        clip, update = optimizer._clip_gradients, optimizer._internal_apply_gradients

        def probed_clip(gradients: Any) -> Any:
            gradients = list(gradients)
            added.update(id(g) for g in gradients)
            return clip(gradients)

        def probed_update(pairs: Any) -> Any:
            pairs = list(pairs)
            saw([(g, v) for g, v in pairs if id(v) in given])
            return update(pairs)

        stack.enter_context(replaced(optimizer, "_clip_gradients", probed_clip))
        stack.enter_context(replaced(optimizer, "_internal_apply_gradients", probed_update))

    def _create_state(self, optimizer: Any, pairs: List[Tuple[Any, Any]]) -> None:
        optimizer = inner_of(optimizer)
        if _is_legacy(optimizer):
            super()._create_state(optimizer, pairs)
            return
        with self._tensorflow.name_scope(optimizer.name or "optimizer"):
            optimizer.build([v for g, v in pairs if g is not None])
        self._find_state()

    def _probe_optimizer(self, stack: contextlib.ExitStack, optimizer: Any) -> None:
        inner = getattr(optimizer, "inner_optimizer", optimizer)
        apply = inner.apply_gradients

        def noted_apply(*args: Any, **kwargs: Any) -> Any:
            self.used.add(id(optimizer))
            return apply(*args, **kwargs)

        stack.enter_context(replaced(inner, "apply_gradients", noted_apply))
        if _is_legacy(inner):
            self._probe_legacy(stack, inner)
        else:
            self._probe(stack, inner)

    def _probe_legacy(self, stack: Any, optimizer: Any) -> None:
        taps = self._taps
        transform, apply = optimizer._transform_gradients, optimizer.apply_gradients

        def probed_apply(pairs: Any, *args: Any, **kwargs: Any) -> Any:
            pairs = list(pairs)
            if self._tensorflow.executing_eagerly():
                self._session.guard(self._create_slots, optimizer, pairs)
            return apply(pairs, *args, **kwargs)

        def probed_transform(pairs: Any) -> Any:
            pairs = list(pairs)
            taps.saw("gradient", pairs)
            transformed = list(transform(pairs))
            taps.saw("applied_gradient", transformed)
            return transformed

        stack.enter_context(replaced(optimizer, "apply_gradients", probed_apply))
        stack.enter_context(replaced(optimizer, "_transform_gradients", probed_transform))

    def _probe(self, stack: Any, optimizer: Any) -> None:
        taps = self._taps
        clip, update = optimizer._clip_gradients, optimizer._internal_apply_gradients
        apply = optimizer.apply_gradients

        def probed_apply(pairs: Any, *args: Any, **kwargs: Any) -> Any:
            pairs = list(pairs)
            if self._tensorflow.executing_eagerly():
                self._session.guard(self._create_slots, optimizer, pairs)
            return apply(pairs, *args, **kwargs)

        def probed_clip(gradients: Any) -> Any:
            # After the gradients of all replicas were added, before anything else.
            gradients = list(gradients)
            taps.scratch["raw"] = gradients
            return clip(gradients)

        def probed_update(pairs: Any) -> Any:
            pairs = list(pairs)
            raw = taps.scratch.pop("raw", ())
            if len(raw) == len(pairs):
                taps.saw("gradient", [(g, v) for g, (_, v) in zip(raw, pairs)])
            taps.saw("applied_gradient", pairs)
            return update(pairs)

        stack.enter_context(replaced(optimizer, "apply_gradients", probed_apply))
        stack.enter_context(replaced(optimizer, "_clip_gradients", probed_clip))
        stack.enter_context(replaced(optimizer, "_internal_apply_gradients", probed_update))

    def _create_slots(self, optimizer: Any, pairs: Sequence[Tuple[Any, Any]]) -> None:
        """Run eagerly, a step creates its slots and updates them at once: create them before."""
        if _is_legacy(optimizer):
            super()._create_slots(optimizer, pairs)
        elif pairs:
            with self._tensorflow.name_scope(optimizer.name or "optimizer"):
                optimizer.build([v for _, v in pairs])
            self._read_created()

    def _find_state(self) -> None:
        if not self._model.built:
            return
        self._layers = named_layers(self._model, self._auto_named)
        weights = weight_tensors(self._layers, self._model.trainable_weights, _dtype)
        state = list(weights)
        for name, optimizer in self.optimizers():
            owner = getattr(optimizer, "inner_optimizer", optimizer)
            if _is_legacy(owner):
                state += legacy_slots(name, optimizer, weights)
            else:
                state += _slots(name, optimizer, owner, weights)
        self._state = distinct(state)

    def _learning_rate(self, optimizer: Any) -> Optional[np.ndarray]:
        owner = getattr(optimizer, "inner_optimizer", optimizer)
        if _is_legacy(owner):
            return super()._learning_rate(owner)
        return np.array(owner.learning_rate.numpy())

    def _rate_variable(self, optimizer: Any) -> Any:
        owner = getattr(optimizer, "inner_optimizer", optimizer)
        if _is_legacy(owner):
            return super()._rate_variable(owner)
        fixed = owner._learning_rate
        return fixed if type(fixed).__name__ in PLAIN else None

    def record(
        self,
        taps: Mapping[str, Any],
        before: Dict[Key, np.ndarray],
        rates: Mapping[Key, Value],
        logs: Mapping[str, Any],
        *,
        told: Optional[Mapping[Key, Value]] = None,
    ) -> None:
        """Records a step that has run."""
        rates = dict(rates)
        for name, optimizer in self.optimizers():
            owner = getattr(optimizer, "inner_optimizer", optimizer)
            current = getattr(owner, "_current_learning_rate", None)
            if callable(getattr(owner, "_learning_rate", None)) and current is not None:
                # A schedule: the step itself works out its rate and leaves it here.
                rates["learning_rate", name + "/learning_rate"] = np.array(current.numpy())
        super().record(taps, before, rates, logs, told=told)

    def _describe(self) -> StackDescription:
        tensorflow = self._tensorflow
        keras = sys.modules[self._package]
        policy = sys.modules[self._package + ".src.mixed_precision.policy"].global_policy()
        jit = bool(getattr(self._model, "jit_compile", False))
        environment = self._environment()
        environment["flags"] = {
            "eager": bool(self._model.run_eagerly),
            "jit_compile": jit,
            "jit": str(tensorflow.config.optimizer.get_jit()),
            "precision_policy": policy.name,
            "floatx": self._backend.floatx(),
        }
        capture = {
            "gradients": "extra outputs of the compiled step",
            "raw_gradients": True,
            "state": "read between steps",
            "disturbs": "a compiler may round otherwise" if jit else self._disturbs(),
        }
        name = "tf.keras" if self._package == "keras" else self._package
        label = f"{name} {keras.__version__} on TensorFlow {tensorflow.__version__}"
        return StackDescription("tf-keras", label, "tensorflow", environment, capture)


def _is_legacy(optimizer: Any) -> bool:
    return hasattr(optimizer, "_create_all_weights")


def _slots(
    prefix: str, optimizer: Any, owner: Any, weights: Sequence[StateTensor]
) -> List[StateTensor]:
    """The optimizer's variables: those that belong to a weight, and those that do not."""
    index = getattr(owner, "_index_dict", None)
    found: List[StateTensor] = []
    placed = {
        id(getattr(owner, name, None))
        for name in ("_iterations", "_learning_rate", "_current_learning_rate")
    }
    for name, slots in slot_lists(owner, len(index or ())):
        for tensor in weights:
            position = index.get(owner._var_key(tensor.variable)) if index else None
            slot = slots[position] if position is not None else None
            if slot is not None and id(slot) not in placed:
                placed.add(id(slot))
                found.append(slot_tensor(tensor, name, slot, _dtype))
    attributes = {
        id(value): name for name, value in vars(owner).items() if hasattr(value, "assign")
    }
    for own_name, variable in scale_variables(optimizer):
        placed.add(id(variable))
        found.append(optimizer_tensor(own_name, variable, _dtype, owner=prefix))
    own = [*owner.variables, *(v for v in vars(owner).values() if hasattr(v, "assign"))]
    if owner is not optimizer:
        own += list(optimizer.variables)
    for variable in own:
        if id(variable) not in placed:
            placed.add(id(variable))
            plain = attributes.get(id(variable)) or variable.name.split(":")[0].split("/")[-1]
            own_name = optimizer_variable_name(plain)
            found.append(optimizer_tensor(own_name, variable, _dtype, owner=prefix))
    found.append(optimizer_tensor("iteration", owner.iterations, _dtype, owner=prefix))
    return found
