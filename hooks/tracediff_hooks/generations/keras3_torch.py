"""Keras 3 on torch: everything is eager, and tensors change in place.

Each tensor is copied to the host at the moment it is seen, from whatever device it lives on.
"""

import sys
from typing import Any, Callable, Dict, List, Mapping, Optional, Sequence, Tuple

import numpy as np

from tracediff_hooks.describe import StackDescription
from tracediff_hooks.generations.keras3 import Keras3Hook
from tracediff_hooks.generations.on_host import on_host
from tracediff_hooks.generations.step_taps import Pairs, StepTaps
from tracediff_hooks.outputs import LayerOutput
from tracediff_hooks.replay.in_torch import TorchPlayer
from tracediff_hooks.tensors import Key, Value


class TorchTaps(StepTaps):
    """The tensors of one step, copied as they are seen."""

    def __init__(self) -> None:
        super().__init__(None)
        self._seen: Dict[Tuple[str, int], Tuple[Any, int]] = {}

    def collect(self) -> Any:
        """Starts anew: a step is about to run."""
        self._seen = {}
        return super().collect()

    def saw(
        self, role: str, pairs: Pairs, *, unless_seen: bool = False, partial: bool = False
    ) -> None:
        """Copies gradients, unless it is the raw one that is applied."""
        copied = []
        for gradient, variable in pairs:
            if gradient is None:
                continue
            version = (gradient, int(gradient._version))
            self._seen[role, id(variable)] = version
            raw, raw_version = self._seen.get(("gradient", id(variable)), (None, -1))
            if role == "applied_gradient" and raw is gradient and raw_version == version[1]:
                copied.append((self._gradients["gradient", id(variable)], variable))
            else:
                copied.append((np.array(on_host(gradient)), variable))
        super().saw(role, copied, unless_seen=unless_seen, partial=partial)

    def saw_loss(self, loss: Any) -> None:
        """Copies the loss that the step minimises."""
        super().saw_loss(np.array(on_host(loss)))

    def saw_call(self, layer: Any, inputs: Any, outputs: Any) -> None:
        """Copies what a layer put out."""
        super().saw_call(layer, inputs, _on_host(outputs))

    def outputs(
        self, batch: Mapping[Key, Any], activations: Sequence[LayerOutput] = ()
    ) -> Dict[str, Any]:
        """What the step is to return besides its logs, on the host."""
        copied = {key: np.array(on_host(value)) for key, value in batch.items()}
        return super().outputs(copied, activations)


class Keras3TorchHook(Keras3Hook):
    """Records a Keras 3 model on the torch backend from `attach` to `detach`."""

    _resumes = False

    def _has_tapes(self) -> bool:
        return False

    def _new_taps(self) -> Optional[StepTaps]:
        if self._model.jit_compile:
            self._session.event(
                "unsupported",
                "nothing is recorded: a step that torch.compile compiles cannot be looked into; "
                "compile the model with jit_compile=False to record it",
            )
            return None
        return TorchTaps()

    def _eager(self) -> bool:
        return True

    def _is_compiling(self) -> bool:
        return bool(sys.modules["torch"].compiler.is_compiling())

    def _runs_eagerly(self) -> bool:
        return True

    def _notes_gradients(self) -> bool:
        return bool(sys.modules["torch"].is_grad_enabled())

    def _at_once(self) -> Any:
        return sys.modules["torch"].no_grad()

    def _keep(self, outputs: Any) -> Any:
        return _on_host(outputs)

    def _compile(self) -> Callable[[Any], Any]:
        model = self._model
        self._own.make_train_function()
        function = model.train_function
        return lambda data: self._call(function, data)

    def _call(self, function: Any, iterator: Any) -> Any:
        if self._session.replay is not None:
            iterator = self._session.replay.play(TorchPlayer(self), iterator)
        return self._run(function, iterator)

    def _read_created(self) -> None:
        """Keeps the first values of variables that an optimizer made in the step."""
        self._find_state()
        for tensor in self._state:
            place = id(tensor.variable)
            if place not in self._known and place not in self._created:
                self._created[place] = np.array(on_host(tensor.variable.value))

    def _before(
        self,
        beside: Sequence[Any],  # noqa: ARG002 - nothing is read with the state here
    ) -> Tuple[Dict[Key, np.ndarray], List[np.ndarray]]:
        state = {t.key: on_host(t.variable.value) for t in self._state}
        state.update(self._ahead)
        return self._session.before(self._model, state, eager=True), []

    def _kept(self, variable: Any) -> np.ndarray:
        return np.array(on_host(variable.value))

    def _after(self) -> Dict[Key, np.ndarray]:
        return {t.key: self._kept(t.variable) for t in self._state}

    def _learning_rate(self, optimizer: Any) -> Optional[np.ndarray]:
        return np.array(on_host(optimizer.learning_rate))

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
        logs = {name: on_host(value) for name, value in logs.items()}
        super().record(taps, before, rates, logs, told=told)

    def _describe(self) -> StackDescription:
        keras, torch = self._keras, sys.modules["torch"]
        devices = [f"cuda:{i}" for i in range(torch.cuda.device_count())]
        environment = {
            "devices": ["CPU:0", *devices],
            "threads": {
                "intra": torch.get_num_threads(),
                "inter": torch.get_num_interop_threads(),
            },
            "flags": {
                "eager": True,
                "jit_compile": False,
                "precision_policy": keras.config.dtype_policy().name,
                "floatx": keras.config.floatx(),
                "deterministic": bool(torch.are_deterministic_algorithms_enabled()),
                "matmul_precision": torch.get_float32_matmul_precision(),
                "cudnn_benchmark": bool(torch.backends.cudnn.benchmark),
                "device": str(keras.src.backend.torch.core.get_device()),
            },
            "keras_seed": keras.src.utils.rng_utils.get_random_seed(),
            "torch_seed": torch.initial_seed(),
        }
        capture = {
            "gradients": "copied in the step",
            "raw_gradients": True,
            "state": "read between steps",
            "disturbs": "nothing known",
        }
        label = f"Keras {keras.__version__} on torch {torch.__version__}"
        return StackDescription("keras3-torch", label, "torch", environment, capture)


def _on_host(outputs: Any) -> Any:
    if isinstance(outputs, (list, tuple)):
        return [_on_host(value) for value in outputs]
    return np.array(on_host(outputs)) if hasattr(outputs, "detach") else outputs
