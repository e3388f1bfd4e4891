"""What a framework generation says of itself, for steps of its models to be recorded.

Nothing here watches or records: it is what those who do so ask of the generation.
"""

import abc
import contextlib
import sys
from typing import Any, Callable, Dict, List, Optional, Sequence, Tuple

import numpy as np

from tracediff_hooks.describe import StackDescription
from tracediff_hooks.generations.hand_written import on_tape
from tracediff_hooks.session import Session

SYMBOLIC_RATE = (
    "the learning rate is a function that gives a tensor inside the compiled step; it is not "
    "recorded"
)


class Generation(abc.ABC):
    """How the trainer, the optimizers and the variables of one model are reached.

    Args:
        model: the model that is trained.
        session: what its steps are recorded to.
    """

    unseen = (
        "steps that the script's own tf.function compiles are not recorded: nothing of them can be "
        "seen from outside; call it as recording.step(train_step, x, y)"
    )
    """What is said of a hand-written step that cannot be seen."""
    given_scaled = False
    """Whether a script gives an optimizer the gradients of the loss that it scaled."""

    def __init__(self, model: Any, session: Session) -> None:
        self._model = model
        self._session = session

    @property
    def _tensorflow(self) -> Any:
        return sys.modules["tensorflow"]

    @abc.abstractmethod
    def _new_taps(self) -> Any:
        """Makes what carries tensors out of the step; None where this backend is not supported."""

    @abc.abstractmethod
    def _compile(self) -> Callable[[Any], Any]:
        """Builds the framework's function for one step, and what runs a group of them."""

    def _rate_is_called(self, optimizer: Any) -> bool:  # noqa: ARG002 - generations need it
        """Whether the learning rate is a function of the script's, which a step calls."""
        return False

    def _note_rate(self, optimizer: Any, rate: Any) -> None:
        """Takes what such a function gave to a step; a compiled one goes on with that."""
        if hasattr(rate, "graph"):
            self._session.event("not-recorded", SYMBOLIC_RATE)
        else:
            self._session.called_rates[id(optimizer)] = float(rate)

    def _has_tapes(self) -> bool:
        """Whether steps are differentiated by a GradientTape."""
        return True

    def _prepare(self) -> None:
        """Does what is needed ahead of the first trace; nothing in most generations."""
        return

    @abc.abstractmethod
    def _probes(self) -> "contextlib.AbstractContextManager[None]":
        """Watches what else a step computes, such as its loss, until the block ends."""

    @abc.abstractmethod
    def _layer_class(self) -> Any:
        """The framework's class of all layers."""

    @abc.abstractmethod
    def _update_methods(self) -> List[Tuple[Any, str]]:
        """Each class of optimizers, and its method that applies gradients."""

    @abc.abstractmethod
    def _pairs(self, optimizer: Any, *args: Any, **kwargs: Any) -> List[Tuple[Any, Any]]:
        """The gradients and variables that the method was called with."""

    @abc.abstractmethod
    def _probe_optimizer(self, stack: contextlib.ExitStack, optimizer: Any) -> None:
        """Watches the methods of one optimizer until the stack is closed."""

    @abc.abstractmethod
    def _probe_applied(
        self, stack: contextlib.ExitStack, optimizer: Any, pairs: List[Tuple[Any, Any]]
    ) -> None:
        """Watches what an eager update consumes, until the stack is closed."""

    @abc.abstractmethod
    def _create_state(self, optimizer: Any, pairs: List[Tuple[Any, Any]]) -> None:
        """Lets an optimizer make its slots, which it would make and update in one go."""

    @abc.abstractmethod
    def parts_of(self, data: Any) -> Tuple[Any, Any, Any]:
        """A batch as x, y, sample weight; None where there is none."""

    def input_order(self) -> Optional[Sequence[str]]:
        """The names of the model's inputs in its order, where it knows them."""
        return getattr(self._model, "input_names", None)

    def output_order(self) -> Optional[Sequence[str]]:
        """The names of the model's outputs in its order, where it knows them."""
        return getattr(self._model, "output_names", None)

    @abc.abstractmethod
    def _find_state(self) -> None:
        """Looks for the weights and slots that there are by now."""

    @abc.abstractmethod
    def _native(self, variable: Any) -> Any:
        """The eager TensorFlow variable in a variable of this generation."""

    @abc.abstractmethod
    def _learning_rate(self, optimizer: Any) -> Optional[np.ndarray]:
        """The rate that the next step of an optimizer will use."""

    def _rate_variable(self, optimizer: Any) -> Any:  # noqa: ARG002 - generations need it
        """The plain variable that holds just what `_learning_rate` gives; None without one."""
        return None

    def _runs_eagerly(self) -> bool:
        """Whether what the script computes at this moment happens here and now."""
        return bool(self._tensorflow.executing_eagerly())

    def _is_compiling(self) -> bool:
        """Whether the script compiles what is called at this moment, with all that it calls."""
        return False

    def _notes_gradients(self) -> bool:
        """Whether what is computed at this moment may be differentiated."""
        return on_tape()

    def _at_once(self) -> "contextlib.AbstractContextManager[Any]":
        """A block in which variables can be read while a step is traced."""
        return self._tensorflow.init_scope()  # type: ignore[no-any-return]

    def _keep(self, outputs: Any) -> Any:
        """What a layer put out, safe from what happens to it before the step has ended."""
        return outputs

    @abc.abstractmethod
    def _describe(self) -> StackDescription:
        """What the generation tells about itself, once a run."""

    def _environment(self) -> Dict[str, Any]:
        """Devices, threads and seed, which TensorFlow 2 tells alike in all versions."""
        config = self._tensorflow.config
        return {
            "devices": [device.name for device in config.list_physical_devices()],
            "threads": {
                "intra": config.threading.get_intra_op_parallelism_threads(),
                "inter": config.threading.get_inter_op_parallelism_threads(),
            },
            "tensorflow_seed": sys.modules["tensorflow.python.eager.context"].global_seed(),
        }
