"""What the generations share whose step is `train_step`, compiled by `make_train_function`.

What the step consumed and computed leaves it as one more entry of the logs that `train_step`
returns, and is taken off again before Keras sees the logs. The model has what the framework made
for it back when the recording ends.
"""

import contextlib
import functools
from typing import Any, Callable, Dict, Iterator, List

from tracediff_hooks.generations.differentiated import NO_LOSS, is_scalar, tapes_watched
from tracediff_hooks.generations.hand_written import HandWrittenLoop
from tracediff_hooks.generations.layer_calls import layer_calls
from tracediff_hooks.generations.metrics import UNNAMED_LOGS, are_named
from tracediff_hooks.generations.optimizers import scales_the_loss
from tracediff_hooks.generations.own_attributes import OwnAttributes, trains_a_batch_amid_a_fit
from tracediff_hooks.generations.recorded_step import RecordedStep
from tracediff_hooks.generations.replicas import ReplicaTaps, replicas_of, unsupported
from tracediff_hooks.generations.step_taps import TAPS, set_plainly
from tracediff_hooks.generations.unknown_optimizers import probe_unknown
from tracediff_hooks.replay.in_step import StepPlayer
from tracediff_hooks.session import Session
from tracediff_hooks.tensors import Key


class CompiledStepHook(RecordedStep):
    """Watches the compiled step of a model, from `attach` to `detach`."""

    def __init__(self, model: Any, session: Session) -> None:
        super().__init__(model, session)
        self._plain_train_function: Any = None
        self._plain_train_step: Any = None
        self._own = OwnAttributes(model)
        self._expected = False
        self._attached = False
        self._tracing = 0
        self._probed = contextlib.ExitStack()
        self.probed: List[Any] = []

    def _batch(self, data: Any) -> Dict[Key, Any]:
        """The tensors of a batch by canonical name."""
        order = self.input_order(), self.output_order()
        return self._taps.batch(*self.parts_of(data), *order)  # type: ignore[no-any-return]

    @property
    def attached(self) -> bool:
        """Whether the model's steps are watched."""
        return self._attached

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
        self._own = OwnAttributes(model)
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
        self._own.put_back()
        self._put_back()

    def _make_train_function(self, *args: Any, **kwargs: Any) -> Any:
        if self._session.whole and self._has_step():
            return self._model.train_function
        if not self._expected and not self._session.whole:
            if self._has_step() and trains_a_batch_amid_a_fit(self._model):
                return self._model.train_function
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
            # The framework sorts the names of logs, which names of several kinds refuse.
            if not are_named(logs) or taps is None:
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
                self.probed = [optimizer for _, optimizer in self._updating()]
                for optimizer in self.probed:
                    self._session.guard(self._watch_optimizer, stack, optimizer)
                stack.enter_context(self._probes())
                if self._has_tapes() and self.replicas == 1:
                    saw = functools.partial(self._session.guard, self._saw_target)
                    stack.enter_context(tapes_watched(self._tensorflow, saw))
            yield
        finally:
            self._tracing -= 1
            if self._tracing == 0:
                self._probed.close()

    def _saw_target(self, target: Any, sources: Any) -> None:
        """Takes what a tape differentiates with respect to the model's weights for the loss."""
        weights = self._model.trainable_variables
        own = {id(one) for weight in weights for one in (weight, self._native(weight))}
        trained = any(id(one) in own for one in self._tensorflow.nest.flatten(sources))
        if trained and is_scalar(target) and not any(map(scales_the_loss, self.probed)):
            self._taps.saw_target(target)

    def _watch_optimizer(self, stack: contextlib.ExitStack, optimizer: Any) -> None:
        """Watches an optimizer of whatever class."""
        if self._knows(optimizer):
            self._probe_optimizer(stack, optimizer)
        else:
            event = self._session.event
            probe_unknown(stack, optimizer, taps=self._taps, used=self.used, event=event)

    def outputs(self, data: Any) -> Dict[str, Any]:
        """What the step that was noted last is to return besides its own result."""
        self._read_created()
        calls = self._session.choice.of(self._taps.calls, self._layers)
        batch = {} if data is None else self._batch(data)
        found: Dict[str, Any] = self._taps.outputs(batch, calls)
        if data is not None and "loss" not in found:
            self._session.event("not-recorded", NO_LOSS)
        return found

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
            self._session.event("not-recorded", UNNAMED_LOGS)
        return logs
