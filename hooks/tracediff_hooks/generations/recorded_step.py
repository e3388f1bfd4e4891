"""A step as it is recorded: the state before it, what it computed, and the state after it.

How a step is watched, and what there is to see, others know; weights and slots are read between
steps.
"""

from typing import Any, Dict, List, Mapping, Optional, Sequence, Set, Tuple

import numpy as np

from tracediff_hooks.describe import StackDescription
from tracediff_hooks.generations.generation import Generation
from tracediff_hooks.generations.hand_written import HandWrittenLoop
from tracediff_hooks.generations.metrics import logged_metrics
from tracediff_hooks.generations.optimizers import NO_RATE, Optimizers, may_skip, scale_of
from tracediff_hooks.generations.reading import Reader
from tracediff_hooks.generations.replicas import Copies
from tracediff_hooks.generations.step_taps import view
from tracediff_hooks.session import Session
from tracediff_hooks.state import StateIndex, StateTensor
from tracediff_hooks.tensors import Key, ScaledBy, Value


class RecordedStep(Generation):
    """Reads the state of a model between its steps, and records each step that was watched."""

    def __init__(self, model: Any, session: Session) -> None:
        super().__init__(model, session)
        self._read_before, self._read_after = Reader(), Reader()
        self._optimizers = Optimizers(model)
        self._layers: List[Any] = []
        self._state: List[StateTensor] = []
        self._of_state = StateIndex(self._state)
        self._taps: Any = None
        self._known: Set[int] = set()
        self._created: Dict[int, np.ndarray] = {}
        self._ahead: Dict[Key, np.ndarray] = {}
        self._loop: Optional[HandWrittenLoop] = None
        self.replicas = 1
        self._copies = Copies(session.event)
        self.used: Set[int] = set()

    @property
    def session(self) -> Session:
        """What the steps are recorded to."""
        return self._session

    @property
    def loop(self) -> Optional[HandWrittenLoop]:
        """Watches a loop that the script writes itself, where one may."""
        return self._loop

    def optimizers(self) -> List[Tuple[str, Any]]:
        """The optimizers that update the model, by name; until a step was seen, that may do so."""
        return [one for one in self._updating() if self._knows(one[1])]

    def _updating(self) -> List[Tuple[str, Any]]:
        """The same, with those that are none of the framework's."""
        others = self._loop.optimizers if self._loop is not None else ()
        return self._optimizers(others, self.used)

    def _knows(self, optimizer: Any) -> bool:
        """Whether an optimizer is of the framework's own classes."""
        return isinstance(optimizer, tuple(owner for owner, _ in self._update_methods()))

    def before(self) -> Tuple[Dict[Key, np.ndarray], Dict[Key, Value]]:
        """What has to be read before a step: the state, and the rates that it will use."""
        rates: Dict[Key, Value] = {}
        variables: Dict[Key, Any] = {}
        for name, optimizer in self.optimizers():
            if self._rate_is_called(optimizer):
                continue  # it is for the step to call it; what it gives is noted then
            key = "learning_rate", name + "/learning_rate"
            variable = self._rate_variable(optimizer)
            if variable is not None:
                variables[key] = variable
                continue
            rate = self._learning_rate(optimizer)
            if rate is not None:
                rates[key] = rate
            else:
                self._session.event("not-recorded", NO_RATE.format(type(optimizer).__name__))
        state, values = self._before(list(variables.values()))
        rates.update((key, np.array(value)) for key, value in zip(variables, values))
        return state, rates

    def begin_forward(self) -> None:
        """Reads what the forward pass of a hand-written step may change, such as moving averages.

        The pass runs ahead of the update, at which the rest of the state is read.
        """
        self._ahead = {
            tensor.key: self._kept(tensor.variable)
            for tensor in self._state
            if tensor.spec.role == "weight" and not tensor.spec.trainable
        }

    def end_forward(self) -> None:
        """The update that followed is over."""
        self._ahead = {}

    def _kept(self, variable: Any) -> np.ndarray:
        """The value of a variable in memory that nobody writes to."""
        return view(self._native(variable))

    def _before(self, beside: Sequence[Any]) -> Tuple[Dict[Key, np.ndarray], List[np.ndarray]]:
        """What has to be kept of the state, and the values of variables that are read with it."""
        values = self._read_before(self._natives() + list(beside))
        index = self._index()
        state = {**dict(zip(index.keys, values)), **self._ahead}
        # A compiled step trains the weights that it was compiled for, others those of the moment.
        eager = self._session.whole or bool(getattr(self._model, "run_eagerly", False))
        kept = self._session.before(self._model, state, eager=eager)
        return kept, values[len(index.keys) :]

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
                    variable = self._native(tensor.variable)
                    spread = hasattr(variable, "distribute_strategy")
                    value = np.array(view(variable) if spread else variable.numpy())
                    if value.shape == tensor.spec.shape:  # else it has no value yet
                        self._created[place] = value

    def record(
        self,
        taps: Mapping[str, Any],
        before: Dict[Key, np.ndarray],
        rates: Mapping[Key, Value],
        logs: Mapping[str, Any],
        *,
        told: Optional[Mapping[Key, Value]] = None,
    ) -> None:
        """Records a step that has run, with what the script tells of it."""
        for tensor in self._state if self._created else ():
            if tensor.key not in before and id(tensor.variable) in self._created:
                before[tensor.key] = self._created[id(tensor.variable)]
        optimizers = self._updating()
        observed, aliases = self._taps.values(taps, self._index().weight_names)
        for kind, message in self._taps.unrecordable:
            self._session.event(kind, message)
        observed.update(logged_metrics(self._model, self._layers, logs))
        observed.update(told or {})
        for name, optimizer in optimizers:
            if id(optimizer) in self._session.called_rates:
                rate = np.array(self._session.called_rates[id(optimizer)], np.float32)
                observed["learning_rate", name + "/learning_rate"] = rate
        used = {name + "/learning_rate" for name, _ in optimizers}
        observed.update({key: rate for key, rate in rates.items() if key[1] in used})
        self._session.step(
            self._model,
            self._layers,
            self._state,
            self._described,
            before=before,
            observed=observed,
            after=self._after(),
            aliases=aliases,
            places=self._taps.places,
            optimizers=optimizers,
            may_skip=may_skip(optimizer for _, optimizer in optimizers),
            scaled=self._scaled(),
        )
        self._created = {}
        self._known = self._index().variables

    def note_scale(self, optimizer: Any, variables: Sequence[Any]) -> None:
        """Notes that the gradients of these variables just seen are of the optimizer's scaled loss.

        Nothing is noted of an optimizer that does not scale it.
        """
        names = [name for name, one in self.optimizers() if one is optimizer]
        by = scale_of(names[0], optimizer) if names else None
        if by is not None:
            self._taps.scaled.update({id(variable): by for variable in variables})

    def _scaled(self) -> Dict[str, ScaledBy]:
        """By the name of each weight, what its gradient is multiplied by."""
        names = self._index().weight_names
        scaled = {names[v]: by for v, by in self._taps.scaled.items() if v in names}
        if scaled:
            self._session.event(
                "scaled-gradients",
                "the loss is scaled, and raw gradients are those of the scaled loss",
            )
        return scaled

    def _described(self) -> StackDescription:
        stack = self._describe()
        if self.replicas == 1:
            return stack
        strategy = type(self._model.distribute_strategy).__name__
        replicas = {"strategy": strategy, "count": self.replicas}
        return stack._replace(capture={**stack.capture, "replicas": replicas})

    def _after(self) -> Dict[Key, np.ndarray]:
        if self.replicas > 1:
            self._copies.check(self._state, self._native)
        return dict(zip(self._index().keys, self._read_after(self._natives())))

    def _index(self) -> StateIndex:
        if self._of_state.state is not self._state:
            self._of_state = StateIndex(self._state)
        return self._of_state

    def _natives(self) -> List[Any]:
        """The framework's variables of the state, each read into memory that may be its own."""
        return [self._native(tensor.variable) for tensor in self._state]
