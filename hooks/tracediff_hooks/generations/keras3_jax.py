"""Keras 3 on JAX: the step is a pure function from state and batch to logs and state.

While `fit` runs, the variables are empty and the state is what the trainer hands from step to step.
It is read there, and copied: the step is given its buffers to write into.
"""

import contextlib
import sys
from typing import Any, Callable, Dict, Iterator, List, Mapping, Optional, Sequence, Tuple

import numpy as np

from tracediff_hooks.describe import StackDescription
from tracediff_hooks.generations.jax_taps import JaxTaps, State
from tracediff_hooks.generations.keras3 import Keras3Hook
from tracediff_hooks.generations.metrics import UNNAMED_LOGS, are_named
from tracediff_hooks.generations.optimizers import scales_the_loss
from tracediff_hooks.generations.step_taps import TAPS, StepTaps, replaced
from tracediff_hooks.replay.in_jax import JaxPlayer
from tracediff_hooks.tensors import Key, Value

_TRAINER = "keras.src.backend.jax.trainer"


class Keras3JaxHook(Keras3Hook):
    """Records a Keras 3 model on the JAX backend from `attach` to `detach`."""

    unseen = (
        "steps of a loop written by hand are not recorded on JAX: they are pure functions, of "
        "which nothing can be seen from outside; train with fit or train_on_batch"
    )
    """What is said of a hand-written step."""

    def __init__(self, model: Any, session: Any) -> None:
        super().__init__(model, session)
        self._variables: List[Any] = []
        self._held: Dict[int, Any] = {}

    _resumes = False

    def _has_tapes(self) -> bool:
        return False

    def _new_taps(self) -> Optional[StepTaps]:
        if self._keras.src.backend.config.is_nnx_enabled():
            self._session.event(
                "unsupported", "nothing is recorded: Keras 3 on JAX with NNX is not supported"
            )
            return None
        return JaxTaps()

    def _eager(self) -> bool:
        return False  # a step that makes variables is refused by the trainer itself

    def _probe_optimizer(self, stack: contextlib.ExitStack, optimizer: Any) -> None:
        super()._probe_optimizer(stack, optimizer)
        if not scales_the_loss(optimizer):
            return
        # Its `apply` is passed by: it hands gradients to the optimizer inside in a conditional.
        stateless = optimizer.stateless_apply

        def probed_stateless(slots: Any, grads: Any, trained: Any) -> Any:
            grads = list(grads)
            variables = optimizer.inner_optimizer._trainable_variables
            self._taps.saw("gradient", list(zip(grads, variables)))
            self._session.guard(self.note_scale, optimizer, variables)
            return stateless(slots, grads, trained)

        stack.enter_context(replaced(optimizer, "stateless_apply", probed_stateless))

    def _runs_eagerly(self) -> bool:
        return False  # what updates weights outside of the trainer is said, and not recorded

    def _make_train_function(self, *args: Any, **kwargs: Any) -> Any:
        if self._attached and self._session.whole:
            # A model that is trained on batches may have been built by the first of them.
            self._session.guard(self._find_state)
        return super()._make_train_function(*args, **kwargs)

    def _compile(self) -> Callable[..., Any]:
        model = self._model
        steps = model.steps_per_execution
        # Inside the framework's own loop over steps only the last of a group could be seen.
        with replaced(model, "steps_per_execution", 1):
            self._own.make_train_function()
        function = model.train_function

        def train_function(state: State, iterator: Any) -> Any:
            logs = None
            try:
                for _ in range(steps):
                    logs, state = self._call_with(function, state, iterator)
            except StopIteration:
                if logs is None:
                    raise
            return logs, state

        return train_function

    def _tapped(self, train_step: Any) -> Any:
        def tapped_train_step(state: State, data: Any) -> Any:
            with self.collecting(self._taps.collect_from(state)):
                logs, after = train_step(state, data)
            taps = self._session.guard(self.outputs, data)
            if are_named(logs) and taps is not None:
                logs = dict(logs)
                logs[TAPS] = taps
            return logs, after

        return tapped_train_step

    @contextlib.contextmanager
    def _probes(self) -> Iterator[None]:
        """Watches the optimizers' methods and the loss while one step is traced."""
        model, taps = self._model, self._taps
        compute, update = model.compute_loss_and_updates, model._update_metrics_variables

        def probed_compute(trainable: Any, *args: Any, **kwargs: Any) -> Any:
            loss, (unscaled, predicted, *others) = compute(trainable, *args, **kwargs)
            # Layer outputs belong to the derivative's own trace; they leave it with what the
            # trainer hands on from here to `_update_metrics_variables`, and there alone.
            predicted = {"predicted": predicted, "calls": taps.brought_out(trainable)}
            return loss, (unscaled, predicted, *others)

        def probed_update(
            metrics: Any, loss: Any, x: Any, y: Any, predicted: Any, *rest: Any
        ) -> Any:
            # Where the loss is computed it belongs to the trace of its own derivative.
            taps.saw_loss(loss)
            if self._brings_outputs():
                taps.came_out(predicted["calls"])
                predicted = predicted["predicted"]
            return update(metrics, loss, x, y, predicted, *rest)

        with super()._probes(), contextlib.ExitStack() as stack:
            stack.enter_context(replaced(model, "_update_metrics_variables", probed_update))
            if self._brings_outputs():
                stack.enter_context(replaced(model, "compute_loss_and_updates", probed_compute))
            yield

    def _brings_outputs(self) -> bool:
        """Whether layer outputs are wanted, and the step is the trainer's own, as known here."""
        return bool(self._session.choice) and all(
            getattr(type(self._model), name).__module__ == _TRAINER
            for name in ("train_step", "compute_loss_and_updates", "_update_metrics_variables")
        )

    def _find_state(self) -> None:
        super()._find_state()
        model = self._model
        optimizer = getattr(model, "optimizer", None)
        self._variables = [
            list(model.trainable_variables),
            list(model.non_trainable_variables),
            list(optimizer.variables) if optimizer is not None else [],
        ]

    def _read_created(self) -> None:
        """Nothing: the trainer makes every variable before its callbacks hear of the fit."""

    def _call_with(self, function: Any, state: State, iterator: Any) -> Any:
        """One step: state, the framework's own step, state."""
        if self._session.replay is not None:
            player = JaxPlayer(self, state)
            state, iterator = player.played(self._session.replay.play(player, (state, iterator)))
        guard = self._session.guard
        alive = self._session.alive
        before: Dict[Key, np.ndarray] = {}
        rates: Mapping[Key, Value] = {}
        if alive:
            guard(self._take, state)
            before, rates = guard(self.before) or ({}, {})
        logs, after = function(state, iterator)
        if not isinstance(logs, dict) or TAPS not in logs:
            if self._session.alive:
                self._session.event("not-recorded", UNNAMED_LOGS)
            return logs, after
        logs = dict(logs)
        taps = logs.pop(TAPS)
        if alive:
            guard(self._take, after)
            guard(self.record, taps, before, rates, logs)
        self._held = {}
        return logs, after

    def _take(self, state: State) -> None:
        """Holds the trainer's arrays by variable, until the next step may write into them."""
        self._held = {
            id(variable): value
            for variables, values in zip(self._variables, state)
            for variable, value in zip(variables, values)
        }

    def _before(
        self,
        beside: Sequence[Any],  # noqa: ARG002 - nothing is read with the state here
    ) -> Tuple[Dict[Key, np.ndarray], List[np.ndarray]]:
        state = {t.key: np.asarray(self._held[id(t.variable)]) for t in self._state}
        return self._session.before(self._model, state), []

    def _after(self) -> Dict[Key, np.ndarray]:
        return {t.key: owned(self._held[id(t.variable)]) for t in self._state}

    def _scope(self) -> Any:
        """Inside it, the optimizer's variables have the values of the trainer's state."""
        variables = self._variables[2]
        mapping = [(v, self._held[id(v)]) for v in variables if id(v) in self._held]
        return self._keras.StatelessScope(state_mapping=mapping)

    def _learning_rate(self, optimizer: Any) -> Optional[np.ndarray]:
        with self._scope():
            return owned(optimizer.learning_rate)

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
        with self._scope():
            super().record(taps, before, rates, logs, told=told)

    def _describe(self) -> StackDescription:
        keras, jax = self._keras, sys.modules["jax"]
        jit = bool(self._model.jit_compile) and not self._model.run_eagerly
        environment: Dict[str, Any] = {
            "devices": [f"{device.platform.upper()}:{device.id}" for device in jax.devices()],
            "threads": {"intra": None, "inter": None},
            "flags": {
                "eager": bool(self._model.run_eagerly),
                "jit_compile": jit,
                "precision_policy": keras.config.dtype_policy().name,
                "floatx": keras.config.floatx(),
                "enable_x64": bool(jax.config.jax_enable_x64),
                "matmul_precision": jax.config.jax_default_matmul_precision,
                "prng": str(jax.config.jax_default_prng_impl),
            },
            "keras_seed": keras.src.utils.rng_utils.get_random_seed(),
        }
        capture: Dict[str, Any] = {
            "gradients": "extra outputs of the compiled step" if jit else "read in the step",
            "raw_gradients": True,
            "state": "copied from the trainer's state between steps",
            "disturbs": "a compiler may round otherwise where a gradient leaves the step"
            if jit
            else "nothing known",
        }
        spread = keras.distribution.distribution()
        if spread is not None:
            # Its arrays are whole ones to whoever reads them, on however many devices they lie.
            count = len(spread.device_mesh.devices.flatten())
            capture["replicas"] = {"strategy": type(spread).__name__, "count": count}
        label = f"Keras {keras.__version__} on JAX {jax.__version__}"
        return StackDescription("keras3-jax", label, "jax", environment, capture)


def owned(value: Any) -> np.ndarray:
    """A value on the host, in memory that is nobody else's."""
    array = np.asarray(value)
    return array if array.flags.owndata and array.flags.writeable else array.copy()
