"""What all generations share: from a model and the values of a step to the recorder's terms.

A generation's hook knows how to read its framework; a session begins and ends the runs of one
model, declares what is new, and keeps every error of recording away from training.
"""

import sys
import traceback
from typing import Any, Callable, Dict, List, Mapping, Optional, Sequence, Set, Tuple

import numpy as np

from tracediff_hooks._tell import tell
from tracediff_hooks.describe import (
    StackDescription,
    describe_compile,
    describe_model,
    describe_optimizer,
    describe_stack,
)
from tracediff_hooks.names import NamedLayer, holds_tables
from tracediff_hooks.observed import Observed, bytes_of, numbers_of
from tracediff_hooks.outputs import Activations, OutputChoice
from tracediff_hooks.random_layers import draws, switched_off
from tracediff_hooks.recorder import Recorder
from tracediff_hooks.replay.control import Control
from tracediff_hooks.state import StateTensor, same_objects
from tracediff_hooks.tensors import Key, ScaledBy, TensorSpec, Value


class Session:
    """One model being recorded: declares what is new and passes each step on.

    A run is begun when the first step is in hand, because some stacks create weights and slots only
    inside it.

    Args:
        recorder: what the steps are passed on to.
        activations: which layers' outputs are wanted.
        whole: whether all that a block of a script does is to be recorded, and not one `fit`.
    """

    def __init__(
        self, recorder: Recorder, *, activations: Activations = False, whole: bool = False
    ) -> None:
        self._recorder = recorder
        self.choice = OutputChoice(activations)
        self.whole = whole
        self._choice_checked = False
        self._schema: Optional[Tuple[Any, ...]] = None
        self._seen: Tuple[Any, ...] = ()
        self._state_keys: Set[Key] = set()
        self._weights: List[StateTensor] = []
        self._model: Any = None
        self._optimizers: List[Tuple[str, Any]] = []
        self._observed = Observed(recorder)
        self._fit_pending = False
        self._broken = False
        self._said: Set[str] = set()
        self._noted: Set[Tuple[str, str]] = set()
        self._early: List[Tuple[str, str]] = []
        self.replay: Optional[Control] = None
        # What a generation wants to know of the last fit.
        self.last_step: Any = None
        # What functions that are learning rates have given their optimizers, by identity of these.
        self.called_rates: Dict[int, float] = {}
        self.asked_off = False
        self.fit_params: Mapping[str, Any] = {}
        self.epoch = 0
        self.batch = 0

    @property
    def alive(self) -> bool:
        """Whether there is still something to record to."""
        return not self._broken and not self._recorder.failed

    def guard(self, action: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Runs part of the recording; an error there ends the recording, never the training."""
        return None if self._broken else self.clean_up(action, *args, **kwargs)

    def clean_up(self, action: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """As `guard`, for what has to happen also after the recording has ended."""
        try:
            return action(*args, **kwargs)
        except Exception as error:
            if self._broken:
                return None
            self._broken = True
            frame = traceback.extract_tb(sys.exc_info()[2])[-1]
            message = "{}: {} ({}:{})".format(
                type(error).__name__, error, frame.filename.rsplit("/", 1)[-1], frame.lineno
            )
            self._recorder.event("failure", message)
            tell(
                f"recording to {self._recorder.path} stopped after {self._recorder.steps} steps "
                f"({message}); training goes on."
            )
            self._recorder.pause("failed")
            return None

    def begin_fit(self) -> None:
        """A fit begins: the steps that follow belong to it."""
        self._fit_pending = True
        self._early = []
        if self.replay is not None:
            self.replay.begin_fit()
        self.epoch = self.batch = 0

    def begin_epoch(self, epoch: int) -> None:
        """An epoch begins: its steps are counted from 0."""
        self.epoch = epoch
        self.batch = 0

    def end_fit(self, status: str) -> None:
        """Brings everything to disk. Another fit of the same model continues the run."""
        if self.replay is not None:
            self.replay.end_fit(status)
        seen = not self._fit_pending or self._early
        if status == "complete" and not seen and not self.whole and self.alive:
            self.event("not-recorded", "no step of this fit was seen, so nothing of it is recorded")
        self._recorder.pause(status)

    def give_way(self) -> None:
        """Ends what another callback, which records the model from now on, finds on it."""
        if self._fit_pending:
            self.event(
                "superseded",
                f"nothing of this fit is recorded to {self._recorder.path}: a model is recorded to "
                "one trace at a time, and another callback came later",
            )
        self._recorder.pause("interrupted")

    def event(self, kind: str, message: str) -> None:
        """Notes something in the run, once, and says it on stderr, once for all runs."""
        self._say(message)
        if self._fit_pending:
            # Which run this fit belongs to is known with its first step.
            self._early.append((kind, message))
        elif (kind, message) not in self._noted:
            self._noted.add((kind, message))
            self._recorder.event(kind, message)

    def _say(self, message: str) -> None:
        if message not in self._said:
            self._said.add(message)
            tell(message)

    def before(
        self, model: Any, state: Mapping[Key, np.ndarray], *, eager: bool = False
    ) -> Dict[Key, np.ndarray]:
        """Keeps of the state before a step what is not recorded yet.

        Args:
            model: the model that is trained.
            state: may be overwritten afterwards.
            eager: whether the step asks anew which weights it is to train.
        """
        goes_on = self._goes_on(model, set(state))
        if not goes_on or (eager and self._trains_others(model)):
            # Another run may begin with this step, which needs all of it.
            self._recorder.changed({})
            return {key: np.array(value) for key, value in state.items()}
        return self._recorder.changed(state)

    def unchanged(self, model: Any, keys: Set[Key]) -> bool:
        """Takes it that the state is what was recorded last, for a hook that knows this.

        Args:
            model: the model that is trained.
            keys: the tensors of its state.

        Returns:
            Whether that is all; if not, the step needs what `before` returns.
        """
        if self._goes_on(model, keys):
            self._recorder.changed({})
            return True
        return False

    def _goes_on(self, model: Any, keys: Set[Key]) -> bool:
        """Whether the next step surely belongs to the same run as the last."""
        return not self._fit_pending and model is self._model and keys == self._state_keys

    def _trains_others(self, model: Any) -> bool:
        """Whether layers were frozen or unfrozen since the last step."""
        trained = {id(variable) for variable in model.trainable_weights}
        return any((id(t.variable) in trained) != t.spec.trainable for t in self._weights)

    def step(
        self,
        model: Any,
        layers: Sequence[NamedLayer],
        state: Sequence[StateTensor],
        describe: Callable[[], StackDescription],
        *,
        before: Mapping[Key, np.ndarray],
        observed: Mapping[Key, Value],
        after: Mapping[Key, np.ndarray],
        aliases: Sequence[Key] = (),
        places: Optional[Mapping[str, str]] = None,
        optimizers: Sequence[Tuple[str, Any]] = (),
        may_skip: Optional[str] = None,
        scaled: Optional[Mapping[str, ScaledBy]] = None,
    ) -> None:
        """Records one step; see `Recorder.record_step`.

        Args:
            model: the model that is trained.
            layers: its layers with their canonical names.
            state: its weights and slots, as they are with this step.
            describe: tells about the stack; called when the step begins a run.
            before: what `before` returned ahead of the step.
            observed: what the step consumed and produced.
            after: the state after the step.
            aliases: applied gradients that are the raw ones.
            places: name of each recorded layer output -> the layer, in execution order.
            optimizers: what updates the model, by name; where none is given, what it was compiled
                with.
            may_skip: why a step may leave the weights alone, where there is a reason.
            scaled: by the name of a weight, what its raw gradient is multiplied by.
        """
        optimizers = optimizers or [("optimizer", getattr(model, "optimizer", None))]
        observed = numbers_of(observed, self.event)
        seen = (model, state, *(optimizer for _, optimizer in optimizers))
        schema = self._schema if same_objects(seen, self._seen) else _schema_of(seen)
        if schema != self._schema:
            self._begin_run(model, layers, state, describe, observed, optimizers)
            self._schema = schema
            self._state_keys = {tensor.key for tensor in state}
            self._weights = [tensor for tensor in state if tensor.spec.role == "weight"]
        elif self._fit_pending:
            self._recorder.resume()
        if self._fit_pending:
            self._recorder.begin_fit({k: v for k, v in self.fit_params.items() if k != "metrics"})
            self._fit_pending = False
            for kind, message in self._early:
                self.event(kind, message)
        self._check_choice(layers)
        observed, aliases = self._observed.of_one_scale(
            observed, aliases, scaled or {}, event=self.event
        )
        self._observed.declare(observed, aliases=aliases, places=places or {})
        self._recorder.record_step(
            before=before,
            observed=observed,
            after=after,
            epoch=self.epoch,
            batch=self.batch,
            may_skip=may_skip,
        )
        self.batch += 1
        self._seen = seen

    def _check_choice(self, layers: Sequence[NamedLayer]) -> None:
        if not self._choice_checked:
            self._choice_checked = True
            for name in self.choice.missing(layers):
                self.event(
                    "not-recorded",
                    f"no layer is called {name!r}, so no output of it is recorded; the model's "
                    "layers are {}".format(", ".join(entry.name for entry in layers)),
                )

    def _described(self, optimizer: Any) -> Dict[str, Any]:
        return describe_optimizer(optimizer, self.called_rates.get(id(optimizer)))

    def _begin_run(
        self,
        model: Any,
        layers: Sequence[NamedLayer],
        state: Sequence[StateTensor],
        describe: Callable[[], StackDescription],
        observed: Mapping[Key, Value],
        optimizers: Sequence[Tuple[str, Any]],
    ) -> None:
        # Kept, so that no other object gets their identity.
        self._model = model
        self._optimizers = list(optimizers)
        self._noted = set()
        self._observed.begin_run(state)
        stack = describe()
        about = {
            **describe_stack(stack),
            "model": describe_model(model, layers),
            "optimizer": self._described(optimizers[0][1]),
            "compile": describe_compile(model),
            "capture": self._capture(stack, model, layers),
        }
        if len(optimizers) > 1:
            about["optimizers"] = {name: self._described(one) for name, one in optimizers}
        size = sum(_bytes(t.spec) for t in state) + bytes_of(observed)
        self._recorder.begin_run(
            about,
            [t.spec for t in state],
            bytes_per_step=size,
            expected_steps=self.expected_steps(),
        )
        if holds_tables(model):
            self.event(
                "not-recorded",
                "the model has lookup tables among its weights; they are not recorded",
            )

    def _capture(
        self, stack: StackDescription, model: Any, layers: Sequence[NamedLayer]
    ) -> Dict[str, Any]:
        found = dict(stack.capture)
        if self.asked_off:
            found["random_layers"] = self._switched_off(model, layers)
        if self.replay is not None:
            found["replay"] = self.replay.about()
        return found

    def _switched_off(self, model: Any, layers: Sequence[NamedLayer]) -> Dict[str, Any]:
        lines = describe_model(model, layers)["layers"]
        drawing = [str(line["name"]) for line in lines if draws(line)]
        if drawing:
            self.event(
                "random-layers",
                f"{', '.join(drawing)} cannot be switched off here and draw random numbers still; "
                "in a graph tracediff-record --random-layers off can, before the script builds it",
            )
        return {"asked": "off", "switched_off": switched_off(model), "drawing": drawing}

    def expected_steps(self) -> Optional[int]:
        """How many steps the fit will take, where the framework told."""
        params = self.fit_params
        steps, epochs = params.get("steps"), params.get("epochs")
        if not steps and params.get("samples") and params.get("batch_size"):
            steps = -(-params["samples"] // params["batch_size"])
        return int(steps) * int(epochs) if steps and epochs else None


def _schema_of(seen: Tuple[Any, ...]) -> Tuple[Any, ...]:
    """What makes a model, its state and its optimizers others, which another run records."""
    model, state, *optimizers = seen
    return (
        id(model),
        *map(id, optimizers),
        *((t.spec.role, t.spec.name, t.spec.shape, t.spec.trainable) for t in state),
    )


def _bytes(spec: TensorSpec) -> int:
    size = int(np.prod(spec.shape or (), dtype=np.int64))
    try:
        return size * np.dtype(spec.dtype).itemsize
    except TypeError:
        return size * 2
