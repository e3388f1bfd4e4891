"""What the generations share whose step is `train_step`, compiled by `make_train_function`.

What the step consumed and computed leaves it as one more entry of the logs that `train_step`
returns, and is taken off again before Keras sees the logs. Weights and slots are read between
steps. A generation says how its trainer, its optimizers and its variables are reached.
"""

import abc
import contextlib
import functools
import sys
from typing import (
    Any,
    Callable,
    Dict,
    Iterator,
    List,
    Mapping,
    Optional,
    Sequence,
    Set,
    Tuple,
)

import numpy as np

from tracediff_hooks.describe import StackDescription
from tracediff_hooks.generations.hand_written import HandWrittenLoop, on_tape
from tracediff_hooks.generations.layer_calls import layer_calls
from tracediff_hooks.generations.logs_metrics import metrics
from tracediff_hooks.generations.optimizers import Optimizers, may_skip, scales_the_loss
from tracediff_hooks.generations.reading import Reader
from tracediff_hooks.generations.replicas import Copies, ReplicaTaps, replicas_of, unsupported
from tracediff_hooks.generations.step_taps import (
    TAPS,
    set_plainly,
    take_off,
    view,
)
from tracediff_hooks.replay.in_step import StepPlayer
from tracediff_hooks.session import Session
from tracediff_hooks.state import StateIndex, StateTensor
from tracediff_hooks.tensors import Key, Value


class CompiledStepHook(abc.ABC):
    """Records a model whose step is compiled, from `attach` to `detach`."""

    unseen = (
        "steps that the script's own tf.function compiles are not recorded: nothing of them can be "
        "seen from outside; call it as recording.step(train_step, x, y)"
    )
    """What is said of a hand-written step that cannot be seen."""
    sees_scaled = True
    """Whether gradients of a scaled loss are seen before the scale is taken off again."""

    def __init__(self, model: Any, session: Session) -> None:
        self._read_before, self._read_after = Reader(), Reader()
        self._model = model
        self._optimizers = Optimizers(model)
        self._session = session
        self._plain_train_function: Any = None
        self._plain_train_step: Any = None
        self._expected = False
        self._attached = False
        self._layers: List[Any] = []
        self._state: List[StateTensor] = []
        self._of_state = StateIndex(self._state)
        self._taps: Any = None
        self._known: Set[int] = set()
        self._created: Dict[int, np.ndarray] = {}
        self._loop: Optional[HandWrittenLoop] = None
        self.replicas = 1
        self._copies = Copies(session.event)
        self._tracing = 0
        self._probed = contextlib.ExitStack()
        self._ahead: Dict[Key, np.ndarray] = {}
        self.used: Set[int] = set()
        self.probed: List[Any] = []

    @abc.abstractmethod
    def _new_taps(self) -> Any:
        """Makes what carries tensors out of the step; None where this backend is not supported."""

    @abc.abstractmethod
    def _compile(self) -> Callable[[Any], Any]:
        """Builds the framework's function for one step, and what runs a group of them."""

    @abc.abstractmethod
    def _probes(self) -> "contextlib.AbstractContextManager[None]":
        """Watches what else a step computes, such as its loss, until the block ends."""

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
    def _learning_rate(self, optimizer: Any) -> Optional[np.ndarray]:
        """The rate that the next step of an optimizer will use."""

    def _rate_variable(self, optimizer: Any) -> Any:  # noqa: ARG002 - generations need it
        """The plain variable that holds just what `_learning_rate` gives; None without one."""
        return None

    @abc.abstractmethod
    def _describe(self) -> StackDescription:
        """What the generation tells about itself, once a run."""

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
    def _create_state(self, optimizer: Any, pairs: List[Tuple[Any, Any]]) -> None:
        """Lets an optimizer make its slots, which it would make and update in one go."""

    @abc.abstractmethod
    def _probe_applied(
        self, stack: contextlib.ExitStack, optimizer: Any, pairs: List[Tuple[Any, Any]]
    ) -> None:
        """Watches what an eager update consumes, until the stack is closed."""

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
    def loop(self) -> Optional[HandWrittenLoop]:
        """Watches a loop that the script writes itself, where one may."""
        return self._loop

    @property
    def _tensorflow(self) -> Any:
        return sys.modules["tensorflow"]

    def attach(self) -> None:
        """Begins to record: from now on the framework runs the step with the recorder in it."""
        model = self._model
        self.replicas = replicas_of(model)
        if self.replicas > 1:
            reason = unsupported(model.distribute_strategy, replay=self._session.replay is not None)
            if reason is not None:
                self._session.event("unsupported", reason)
                return
            self._taps = ReplicaTaps(model.distribute_strategy, self._new_taps)
        else:
            self._taps = self._new_taps()
        if self._taps is None:
            return
        self._take_up(model.train_function)
        for name in ("saw", "saw_loss", "saw_call"):
            # The framework's own methods call these, in the midst of a step.
            method = functools.partial(getattr(type(self._taps), name), self._taps)
            setattr(self._taps, name, functools.partial(self._session.guard, method))
        self._plain_train_step = model.train_step
        set_plainly(model, "train_step", self._tapped(model.train_step))
        set_plainly(model, "make_train_function", self._make_train_function)
        self._expected = True
        self._attached = True
        self._prepare()
        self._find_state()
        self._known = {id(tensor.variable) for tensor in self._state}
        if self._session.whole:
            self._loop = HandWrittenLoop(self)
            self._loop.attach()

    def _take_up(self, function: Any) -> None:
        """Puts aside the train function that the model has."""
        self._plain_train_function = function
        set_plainly(self._model, "train_function", None)

    def _put_back(self) -> None:
        """Gives the model a train function that goes on without the recorder."""
        set_plainly(self._model, "train_function", self._plain_train_function)

    def detach(self) -> None:
        """Ends the recording: the model has what the framework made for it again."""
        if not self._attached:
            return
        self._attached = False
        if self._loop is not None:
            self._loop.detach()
        for name in ("train_step", "make_train_function"):
            take_off(self._model, name)
        self._put_back()

    def _make_train_function(self, *args: Any, **kwargs: Any) -> Any:
        if self._session.whole and self._has_step():
            return self._model.train_function
        if not self._expected and not self._session.whole:
            # An exception ended the fit that attached this hook; this is another one.
            self.detach()
            return self._model.make_train_function(*args, **kwargs)
        self._expected = False
        train_function = self._compiled()
        set_plainly(self._model, "train_function", train_function)
        return train_function

    def _has_step(self) -> bool:
        """Whether the model has a train function, which is then one that records."""
        return self._model.train_function is not None

    def _compiled(self) -> Callable[[Any], Any]:
        """The train function that records."""
        set_plainly(self._model, "train_function", None)
        return self._compile()

    def _tapped(self, train_step: Any) -> Any:
        def tapped_train_step(data: Any) -> Any:
            with self.collecting():
                logs = train_step(data)
            taps = self._taps.alike(self._session.guard(self.outputs, data))
            if not isinstance(logs, dict) or taps is None:
                return logs
            logs = dict(logs)
            logs[TAPS] = taps
            return logs

        return tapped_train_step

    @contextlib.contextmanager
    def collecting(self, begin: Any = None) -> Iterator[None]:
        """Notes what a step computes that is being traced, or run eagerly.

        Args:
            begin: what tells the taps that a step begins, where `StepTaps.collect` does not.
        """
        with self._taps.collect() if begin is None else begin, self._probing():
            yield

    @property
    def tracing(self) -> bool:
        """Whether a step is being traced, or run eagerly."""
        return self._tracing > 0

    @contextlib.contextmanager
    def _probing(self) -> Iterator[None]:
        """Watches what a step calls: once for all replicas, whose traces take turns."""
        self._tracing += 1
        try:
            if self._tracing == 1:
                stack = self._probed
                if self._session.choice:
                    stack.enter_context(layer_calls(self._layer_class(), self._taps.saw_call))
                self.probed = [optimizer for _, optimizer in self.optimizers()]
                for optimizer in self.probed:
                    self._probe_optimizer(stack, optimizer)
                stack.enter_context(self._probes())
            yield
        finally:
            self._tracing -= 1
            if self._tracing == 0:
                self._probed.close()

    def outputs(self, data: Any) -> Dict[str, Any]:
        """What the step that was noted last is to return besides its own result."""
        self._read_created()
        calls = self._session.choice.of(self._taps.calls, self._layers)
        batch = {} if data is None else self._batch(data)
        return self._taps.outputs(batch, calls)  # type: ignore[no-any-return]

    def optimizers(self) -> List[Tuple[str, Any]]:
        """The optimizers that update the model, by name; until a step was seen, that may do so."""
        others = self._loop.optimizers if self._loop is not None else ()
        return self._optimizers(others, self.used)

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

    def _call(self, function: Any, iterator: Any) -> Any:
        """One step: state, the framework's own step, state."""
        if self._session.replay is not None:
            iterator = self._session.replay.play(StepPlayer(self), iterator)
        return self._run(function, iterator)

    def _run(self, function: Any, iterator: Any) -> Any:
        """The step as it is recorded."""
        with self._taps.passing(self._session.guard):
            return self._watched(function, iterator)

    def _watched(self, function: Any, iterator: Any) -> Any:
        if not self._session.alive:
            logs = function(iterator)
            return {k: v for k, v in logs.items() if k != TAPS} if isinstance(logs, dict) else logs
        guard = self._session.guard
        before, rates = guard(self.before) or ({}, {})
        logs = function(iterator)
        if isinstance(logs, dict) and TAPS in logs:
            logs = dict(logs)
            taps = logs.pop(TAPS)
            guard(self.record, taps, before, rates, logs)
        elif self._session.alive:
            self._session.event(
                "not-recorded",
                "a custom train_step returned no logs, so its steps are not recorded",
            )
        return logs

    def before(self) -> Tuple[Dict[Key, np.ndarray], Dict[Key, Value]]:
        """What has to be read before a step: the state, and the rates that it will use."""
        rates: Dict[Key, Value] = {}
        variables: Dict[Key, Any] = {}
        for name, optimizer in self.optimizers():
            key = "learning_rate", name + "/learning_rate"
            variable = self._rate_variable(optimizer)
            if variable is not None:
                variables[key] = variable
                continue
            rate = self._learning_rate(optimizer)
            if rate is not None:
                rates[key] = rate
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
        optimizers = self.optimizers()
        observed, aliases = self._taps.values(taps, self._index().weight_names)
        for kind, message in self._taps.unrecordable:
            self._session.event(kind, message)
        if self.sees_scaled and any(scales_the_loss(one) for _, one in optimizers):
            self._session.event(
                "scaled-gradients",
                "the loss is scaled, and raw gradients are those of the scaled loss",
            )
        observed.update(metrics(self._model, self._layers, logs))
        observed.update(told or {})
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
        )
        self._created = {}
        self._known = self._index().variables

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
