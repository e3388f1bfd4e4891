"""The one public name: a callback that any generation's `fit` accepts."""

import contextlib
import os
import weakref
from typing import Any, Dict, Iterator, List, Mapping, Optional, Sequence, Union

from tracediff_hooks.generations import UnsupportedModel, hook_for
from tracediff_hooks.generations.gradient_registry import watch_loaded
from tracediff_hooks.levels import Level, Steps
from tracediff_hooks.outputs import Activations, OutputChoice
from tracediff_hooks.random_layers import layers_of, switch_off, switch_on
from tracediff_hooks.recorder import Recorder
from tracediff_hooks.replay import Replay, ReplayRefused
from tracediff_hooks.replay.control import Control
from tracediff_hooks.replay.own_batches import OwnBatches
from tracediff_hooks.session import Session

RANDOM_LAYERS = (None, "own", "off")

# model -> the hook last attached to it. An exception in `fit` leaves it there, and a second one on
# top of it would see the first instead of the framework's step. The model itself keeps an attached
# hook alive.
_attached: "weakref.WeakKeyDictionary[Any, Any]" = weakref.WeakKeyDictionary()


def _nothing() -> None:
    return None


class TraceCallback:
    """Records every step of `model.fit` into a trace.

    ```python
    from tracediff_hooks import TraceCallback
    model.fit(x, y, callbacks=[TraceCallback("a.zarr")])
    ```

    It derives from no framework's class, so that one class serves all of them. What it records and
    where is described in docs/trace-format.md. Used for several fits, it continues the run while
    the model stays the same and begins another run in the same store when it does not.

    Args:
        store: where to write the trace; a folder, or a URL that fsspec knows, at which nothing
            stands yet.
        level: ``"full"`` keeps every element, ``"sketch"`` a random projection that tells how far
            two runs are apart to 3 per cent, ``"digest"`` whether they are; ``"auto"`` keeps every
            element unless one step is larger than 64 MiB, and then sketches. Or one for each role,
            ``{"weight": "full", "gradient": "sketch"}``; roles left out are ``"auto"``. Digests,
            statistics and scalars are kept at every level, at every step.
        steps: the steps at which elements and sketches are kept: a number for the first so many, a
            text such as ``":20,100:120,::1000"`` in the notation of Python's slices, slices,
            ranges, or a function of the step. At other steps, what level ``digest`` keeps.
        tensors: patterns of names, such as ``["hidden/*"]``: of these elements are kept, where the
            level says so, and of others sketches.
        budget: what the trace may take on disk, as a number of bytes or ``"2GB"``; by default
            10 GiB, or nine tenths of what the disk has left. Where it is used up, the level is
            lowered; training is never stopped.
        activations: which layers' outputs to record as well: True for all, a regular expression
            that has to be found in a layer's name, or a list of names.
        overwrite: replace a trace that stands at ``store``.
        compression: None, ``"lz4"`` or ``"zstd"``; float32 training state shrinks little and costs
            time.
        replay: what of another run's trace to train on, see `Replay`; None to train as ever.
        random_layers: ``"off"`` trains with the rates of dropout and noise at 0, so that a replay
            of it can do the same: an experiment, and another training than the script's own. A
            replay does as the run that it replays, unless this is given.

    Raises:
        TraceExistsError: something stands at ``store``; nothing is ever overwritten silently.
        ValueError: an option that does not exist, or a URL that nothing installed can write to.

    With ``replay``, `fit` raises `ReplayRefused` where the training cannot be controlled as asked.
    """

    async_safe = True
    """Keras 3 may run other callbacks in the background if all are safe there; this one does its
    work elsewhere."""
    _supports_tf_logs = True
    _chief_worker_only = False

    def __init__(
        self,
        store: Union[str, "os.PathLike[str]"],
        *,
        level: Level = "auto",
        steps: Steps = None,
        tensors: Union[str, Sequence[str], None] = None,
        budget: Union[float, str, None] = None,
        activations: Activations = False,
        overwrite: bool = False,
        compression: Optional[str] = None,
        replay: Optional[Replay] = None,
        random_layers: Optional[str] = None,
    ) -> None:
        watch_loaded()
        if random_layers not in RANDOM_LAYERS:
            raise ValueError(f"random_layers must be 'own' or 'off', not {random_layers!r}")
        self._random_layers = random_layers
        self._switched: List[Any] = []
        self._replay = replay
        self._recorder = Recorder(
            store,
            level=level,
            steps=steps,
            tensors=tensors,
            budget=budget,
            overwrite=overwrite,
            compression=compression,
        )
        self._own: Optional[Recorder] = None
        if replay is not None and replay.own_batches is not None:
            self._own = Recorder(
                replay.own_batches,
                level=level,
                budget=budget,
                overwrite=overwrite,
                compression=compression,
            )
        self._activations = activations if OutputChoice(activations) else False
        self._session: Optional[Session] = None
        self._hook: Any = None
        self._training = False
        self.params: Mapping[str, Any] = {}
        self.model: Any = None
        self.validation_data: Any = None
        self.busy = False
        self.process = os.getpid()

    def set_params(self, params: Mapping[str, Any]) -> None:
        """Takes what the framework tells of the fit, such as its number of epochs."""
        self.params = dict(params or {})
        if self._session is not None:
            self._session.fit_params = self.params

    def set_model(self, model: Any) -> None:
        """Begins to record a model, which the framework is about to train."""
        self.model = model
        if self._hook is not None:
            self.stop("interrupted")  # the fit before this one never ended
        self._training = False
        if self._session is None:
            self._session = Session(self._recorder, activations=self._activations)
            if self._replay is not None:
                own = None if self._own is None else OwnBatches(self._own, self.path)
                self._session.replay = Control(self._replay, self._session, own)
        # Some generations tell the parameters before the model, some after it.
        self._session.begin_fit()
        self._session.fit_params = self.params
        try:
            self._hook = hook_for(model, self._session)
        except UnsupportedModel as error:
            self._session.event("unsupported", f"nothing is recorded: {error}")
            self._refuse_uncontrolled()
            return
        self._recorder.announce()
        self._session.asked_off = self.random_layers_off
        if self.random_layers_off and not getattr(self._hook, "calls_layers_once", False):
            self._session.guard(self._switch_off)
        self._session.guard(self._take_over)
        if not (self._hook.attached and self._session.alive):
            self._refuse_uncontrolled()

    @property
    def random_layers_off(self) -> bool:
        """Whether layers are to draw nothing while they are trained."""
        if self._random_layers is None and self._replay is not None:
            return self._replay.trace.random_layers_off
        return self._random_layers == "off"

    def _switch_off(self) -> None:
        for layer in layers_of(self.model):
            switch_off(layer)
            self._switched.append(layer)

    def _refuse_uncontrolled(self) -> None:
        """Ends a training that was to be a replay and cannot be watched."""
        if self._replay is not None:
            raise ReplayRefused(
                f"this training cannot be recorded, so {self._replay.source} cannot be replayed",
                hint="the lines above say why",
            )

    def set_whole(self, model: Any) -> Any:
        """Begins to record all that a block of a script does with a model, as `set_model` one fit.

        Returns:
            The hook that is attached to the model.

        Raises:
            ReplayRefused: the callback was made for a replay.
        """
        if self._replay is not None:
            raise ReplayRefused(
                f"a block is recorded and not replayed to, so {self._replay.source} cannot be "
                "replayed here",
                hint="train with fit, and pass it TraceCallback(..., replay=...)",
            )
        self._session = Session(self._recorder, activations=self._activations, whole=True)
        self.set_model(model)
        return self._hook

    def _take_over(self) -> None:
        """Attaches the hook, after taking off one that another callback has left on the model."""
        other = _attached.get(self.model, _nothing)()
        if other is not None:
            other.detach()
            other.session.clean_up(other.session.give_way)
        _attached[self.model] = weakref.ref(self._hook)
        self._hook.attach()

    def on_epoch_begin(
        self,
        epoch: int,
        logs: Optional[Dict[str, Any]] = None,  # noqa: ARG002 - the frameworks pass it
    ) -> None:
        """Counts the steps that follow to another epoch."""
        if self._session is not None:
            self._session.begin_epoch(epoch)

    def on_train_end(
        self,
        logs: Optional[Dict[str, Any]] = None,  # noqa: ARG002 - the frameworks pass it
    ) -> None:
        """Ends the recording of a fit that came to its end."""
        self.stop("complete")

    def stop(self, status: str) -> None:
        """Takes the hook off the model and brings everything to disk.

        Args:
            status: ``complete`` or ``interrupted``.
        """
        if self._take_off() and self._session is not None:
            self._session.guard(self._session.end_fit, status)

    def _take_off(self) -> bool:
        """Takes the hook off the model; False where there is none."""
        hook, self._hook = self._hook, None
        if hook is None or self._session is None:
            return False
        self._session.clean_up(hook.detach)
        for layer in self._switched:
            switch_on(layer)
        self._switched = []
        if _attached.get(self.model, _nothing)() is hook:
            del _attached[self.model]
        return True

    @contextlib.contextmanager
    def fitting(self) -> Iterator[None]:
        """Marks the time of a `fit` that was given this callback.

        An exception ends the recording of it.
        """
        self.busy = True
        try:
            yield
        except BaseException:
            self.stop("interrupted")
            raise
        finally:
            self.busy = False
            self.stop("complete")

    @property
    def steps(self) -> int:
        """How many steps the current run has."""
        return self._recorder.steps

    @property
    def path(self) -> str:
        """Where the trace is written."""
        return self._recorder.path

    @property
    def used(self) -> bool:
        """Whether a training was given this callback."""
        return self._session is not None

    def close(self) -> None:
        """Ends the trace; it happens by itself when the process ends."""
        if self.process != os.getpid():
            return  # the trace is that of the process which has forked this one
        self.stop("interrupted")
        self._recorder.close()
        if self._own is not None:
            self._own.close()

    def _implements_train_batch_hooks(self) -> bool:
        return False

    def _implements_test_batch_hooks(self) -> bool:
        return False

    def _implements_predict_batch_hooks(self) -> bool:
        return False

    def on_train_begin(
        self,
        logs: Optional[Dict[str, Any]] = None,  # noqa: ARG002 - the frameworks pass it
    ) -> None:
        """Takes note that it is a fit; the hook was attached in `set_model`, ahead of the step."""
        self._training = True

    def on_test_end(
        self,
        logs: Optional[Dict[str, Any]] = None,  # noqa: ARG002 - the frameworks pass it
    ) -> None:
        """Takes the hook off again, where `evaluate` or `predict` was given this callback."""
        if not self._training and not (self._session is not None and self._session.whole):
            self._take_off()

    on_predict_end = on_test_end

    def _ignore(self, *args: Any, **kwargs: Any) -> None:
        """What the frameworks tell of batches, of testing and of predicting is not needed."""

    _ignore._is_default = True  # type: ignore[attr-defined]
    on_batch_begin = on_batch_end = on_train_batch_begin = on_train_batch_end = _ignore
    on_test_begin = on_test_batch_begin = on_test_batch_end = _ignore
    on_predict_begin = on_predict_batch_begin = on_predict_batch_end = _ignore
    on_epoch_end = _ignore
