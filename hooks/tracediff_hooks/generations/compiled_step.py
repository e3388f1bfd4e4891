"""What the generations share whose step is `train_step`, compiled by `make_train_function`.

What the step consumed and computed leaves it as one more entry of the logs that `train_step`
returns, and is taken off again before Keras sees the logs. Weights and slots are read between
steps. A generation says how its trainer, its optimizers and its variables are reached.
"""

import abc
import contextlib
import sys
from typing import Any, Callable, Dict, List, Mapping, Optional, Sequence, Set, Tuple

import numpy as np

from tracediff_hooks.describe import StackDescription
from tracediff_hooks.generations.logs_metrics import metrics
from tracediff_hooks.generations.step_taps import TAPS, StepTaps, set_plainly, take_off, view
from tracediff_hooks.replay.in_step import play
from tracediff_hooks.session import Session
from tracediff_hooks.state import StateTensor
from tracediff_hooks.tensors import Key


class CompiledStepHook(abc.ABC):
    """Records a model whose step is compiled, from `attach` to `detach`."""

    def __init__(self, model: Any, session: Session) -> None:
        self._model = model
        self._session = session
        self._plain_train_function: Any = None
        self._expected = False
        self._attached = False
        self._layers: List[Any] = []
        self._state: List[StateTensor] = []
        self._taps: Any = None
        self._known: Set[int] = set()
        self._created: Dict[int, np.ndarray] = {}

    @abc.abstractmethod
    def _new_taps(self) -> Optional[StepTaps]:
        """Makes what carries tensors out of the step; None where this backend is not supported."""

    @abc.abstractmethod
    def _compile(self) -> Callable[[Any], Any]:
        """Builds the framework's function for one step, and what runs a group of them."""

    @abc.abstractmethod
    def _probes(self) -> "contextlib.AbstractContextManager[None]":
        """Watches the optimizers' methods and the loss while a step is traced, or run eagerly."""

    def _batch(self, data: Any) -> Dict[Key, Any]:
        """The tensors of a batch by canonical name."""
        order = self.input_order(), self.output_order()
        return self._taps.batch(*self.parts_of(data), *order)  # type: ignore[no-any-return]

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
    def _learning_rate(self) -> Optional[np.ndarray]:
        """The rate that the next step will use."""

    @abc.abstractmethod
    def _describe(self) -> StackDescription:
        """What the generation tells about itself, once a run."""

    def _prepare(self) -> None:
        """Does what is needed ahead of the first trace; nothing in most generations."""
        return

    @property
    def attached(self) -> bool:
        """Whether the model's steps are watched."""
        return self._attached

    @property
    def session(self) -> Session:
        """What the steps are recorded to."""
        return self._session

    @property
    def _tensorflow(self) -> Any:
        return sys.modules["tensorflow"]

    def attach(self) -> None:
        """Begins to record: from now on the framework runs the step with the recorder in it."""
        self._taps = self._new_taps()
        if self._taps is None:
            return
        model = self._model
        self._plain_train_function = model.train_function
        set_plainly(model, "train_function", None)
        set_plainly(model, "train_step", self._tapped(model.train_step))
        set_plainly(model, "make_train_function", self._make_train_function)
        self._expected = True
        self._attached = True
        self._prepare()
        self._find_state()
        self._known = {id(tensor.variable) for tensor in self._state}

    def detach(self) -> None:
        """Ends the recording: the model has what the framework made for it again."""
        if not self._attached:
            return
        self._attached = False
        for name in ("train_step", "make_train_function"):
            take_off(self._model, name)
        set_plainly(self._model, "train_function", self._plain_train_function)

    def _make_train_function(self, *args: Any, **kwargs: Any) -> Any:
        if not self._expected:
            # An exception ended the fit that attached this hook; this is another one.
            self.detach()
            return self._model.make_train_function(*args, **kwargs)
        self._expected = False
        set_plainly(self._model, "train_function", None)
        train_function = self._compile()
        set_plainly(self._model, "train_function", train_function)
        return train_function

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

    def _read_created(self) -> None:
        """Keeps the initial values of variables that came to be while the step was traced.

        A function that makes variables is traced twice before it runs; in Keras 3 they get their
        values between the two.
        """
        self._find_state()
        with self._tensorflow.init_scope():
            for tensor in self._state:
                place = id(tensor.variable)
                if place not in self._known and place not in self._created:
                    value = np.array(self._native(tensor.variable).numpy())
                    if value.shape == tensor.spec.shape:  # else it has no value yet
                        self._created[place] = value

    def _call(self, function: Any, iterator: Any) -> Any:
        """One step: state, the framework's own step, state."""
        if self._session.replay is not None:
            iterator = play(self._session.replay, self, iterator)
        return self._run(function, iterator)

    def _run(self, function: Any, iterator: Any) -> Any:
        """The step as it is recorded."""
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
        self._known = {id(tensor.variable) for tensor in self._state}

    def _before(self) -> Dict[Key, np.ndarray]:
        state = {t.key: view(self._native(t.variable)) for t in self._state}
        return self._session.before(self._model, state)

    def _after(self) -> Dict[Key, np.ndarray]:
        return {t.key: view(self._native(t.variable)) for t in self._state}

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
