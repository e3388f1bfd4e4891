"""Keras 2.3, tf.keras on TensorFlow 1.15, and graph mode on TensorFlow 2.

A step is one call of a `GraphExecutionFunction`.

The gradients ride along as extra fetches of the train function; the batch is what is passed to its
``__call__``; the state is read between steps, because inside one session call reading races with
updating.
"""

import sys
from typing import Any, Dict, List, Optional

import numpy as np

from tracediff_hooks import v1_optimizer
from tracediff_hooks.describe import StackDescription
from tracediff_hooks.generations.gradient_registry import gradients_of
from tracediff_hooks.generations.graph_batch import batch_of, places_of, unfed
from tracediff_hooks.generations.graph_fetches import Fetches
from tracediff_hooks.generations.graph_mode import keras_of, unsupported
from tracediff_hooks.generations.graph_optimizer import (
    decayed_rate,
    dtype_of,
    learning_rate_of,
    slots_of,
)
from tracediff_hooks.generations.graph_outputs import calls_in_graph
from tracediff_hooks.generations.metrics import listed_metrics
from tracediff_hooks.generations.optimizers import NO_RATE
from tracediff_hooks.generations.own_attributes import is_amid_a_fit
from tracediff_hooks.generations.session_runs import Reader, SessionRuns
from tracediff_hooks.names import is_model, named_layers
from tracediff_hooks.replay.in_graph import GraphPlayer
from tracediff_hooks.session import Session
from tracediff_hooks.state import StateTensor, weight_tensors
from tracediff_hooks.tensors import Key, Value

RATE = ("learning_rate", "optimizer/learning_rate")


class KerasGraphHook:
    """Records a model of a graph stack from `attach` to `detach`."""

    def __init__(self, model: Any, session: Session) -> None:
        self._model = model
        self._session = session
        self._function: Any = None
        self._plain_class: Any = None
        self._backend: Any = None
        self._fetches: Any = None
        self._aliases: List[Key] = []
        self._places: Dict[str, str] = {}
        self._layers: List[Any] = []
        self._state: List[StateTensor] = []
        self._trained: List[Any] = []
        self._history: Any = None
        self._attached = False
        self._runs: Optional[SessionRuns] = None
        self._read, self._read_rate = Reader(), Reader()
        self._standalone = any(
            cls.__module__ == "keras.engine.training" for cls in type(model).__mro__
        )

    @property
    def attached(self) -> bool:
        """Whether the model's steps are watched."""
        return self._attached

    @property
    def session(self) -> Session:
        """What the steps are recorded to."""
        return self._session

    calls_layers_once = True
    """A layer's operations are in the graph from when the script called it."""

    loop = None
    """In a graph nothing is seen of what a script runs in a session of its own."""

    def attach(self) -> None:
        """Begins to record: from now on the framework runs the step with the recorder in it."""
        self._history = getattr(self._model, "history", None)
        reason = unsupported(self._model)
        if reason is not None:
            self._session.event("unsupported", f"nothing is recorded: {reason}")
            return
        self._attached = True
        if getattr(self._model, "train_function", None) is not None:
            self._instrument()
        # tf.keras builds the function of a generator fit after the callbacks were set, and may
        # build it anew.
        build = type(self._model)._make_train_function

        def make_train_function() -> None:
            build(self._model)
            if self._model.train_function is not self._function:
                self._session.guard(self._instrument)

        object.__setattr__(self._model, "_make_train_function", make_train_function)

    def detach(self) -> None:
        """Ends the recording: the model has what the framework made for it again."""
        if not self._attached:
            return
        self._attached = False
        self._model.__dict__.pop("_make_train_function", None)
        self._release()

    def _release(self) -> None:
        function = self._function
        if self._runs is not None:
            self._runs.detach()
            self._runs = None
        if function is None:
            return
        function.__class__ = self._plain_class
        self._fetches.remove()
        self._function = None

    def _instrument(self) -> None:
        self._release()
        function = self._model.train_function
        if type(function).__name__ != "GraphExecutionFunction":
            raise TypeError(
                f"the train function is a {type(function).__name__}, which this hook does not know"
            )
        # TensorFlow 1.15 goes by two names, `tensorflow` and `tensorflow_core`: take the one in
        # use.
        self._backend = sys.modules[type(function).__module__]
        self._layers = named_layers(self._model, self._auto_named)
        # What the model was compiled to train: a layer frozen since then is trained still.
        trained = getattr(self._model, "_collected_trainable_weights", None)
        self._trained = self._model.trainable_weights if trained is None else list(trained)
        weights = weight_tensors(self._layers, self._trained, dtype_of)
        self._state = weights + slots_of(self._model.optimizer, weights, self._trained)
        self._function = function
        self._plain_class = type(function)
        self._fetches = Fetches(function)
        self._fetch_gradients(weights)
        self._fetch_decayed_rate()
        self._fetch_fed_tensors()
        self._fetch_outputs(function)
        hook = self

        class RecordingFunction(self._plain_class):  # type: ignore[misc, name-defined]
            """The train function, with every call recorded."""

            def __call__(self, inputs: Any) -> Any:
                return hook.call(super(RecordingFunction, self).__call__, inputs)

        function.__class__ = RecordingFunction
        # The class and not the session: to ask for that makes operations in the graph.
        self._runs = SessionRuns(sys.modules["tensorflow"].compat.v1.Session)
        self._runs.attach()

    def _auto_named(self, layer: Any, stem: str, number: Optional[int]) -> bool:
        uids = self._backend.PER_GRAPH_OBJECT_NAME_UIDS.get(self._backend.get_graph(), {})
        if self._standalone:
            # Keras 2.3 counts by class name and from 1 (keras/engine/base_layer.py).
            count = uids.get(type(layer).__name__, 0) or uids.get(stem, 0)
            return number is not None and 1 <= number <= count
        if stem == "input":
            # Inputs alone are counted from 1, and under a key of their own (input_layer.py).
            return number is not None and 1 <= number <= uids.get(stem, 0)
        return bool((number or 0) < uids.get(("", stem), 0))

    def _fetch_gradients(self, weights: List[StateTensor]) -> None:
        self._aliases = []
        built = gradients_of(self._model.optimizer, self._trained)
        if built is None:
            self._session.event(
                "no-gradients",
                "gradients are not recorded: the train function was built before tracediff_hooks "
                "watched the optimizer. Import tracediff_hooks before the model is first trained, "
                "or use tracediff-record.",
            )
            return
        names = {id(t.variable): t.spec.name for t in weights}
        for variable, raw, applied in zip(built.variables, built.raw, built.applied):
            name = names.get(id(variable))
            if name is None:
                continue
            self._fetches.add_gradient(("gradient", name), raw)
            if applied is raw:
                self._aliases.append(("applied_gradient", name))
            else:
                self._fetches.add_gradient(("applied_gradient", name), applied)

    def _fetch_decayed_rate(self) -> None:
        """Fetches the learning rate of a step where only the step knows it.

        With `decay`, Keras 2.3 reads the step counter in a race with counting; the rate of an
        optimizer of `tf.compat.v1.train` may be any tensor.
        """
        inner = v1_optimizer.wrapped(self._model.optimizer)
        if inner is not None:
            rate = v1_optimizer.rate(inner)
        else:
            rate = decayed_rate(self._model.optimizer) if self._standalone else None
        if rate is not None and not isinstance(rate, float):
            self._fetches.add(RATE, rate)

    def _fetch_outputs(self, function: Any) -> None:
        """Fetches what the chosen layers put out."""
        self._places = {}
        choice = self._session.choice
        if not choice:
            return
        models = [self._model] + [
            entry for entry in _models_inside(self._model) if entry is not self._model
        ]
        results = [*function.outputs, function.updates_op]
        calls = calls_in_graph(self._layers, models, results)
        for output in choice.of(calls, self._layers):
            self._places[output.name] = output.layer
            self._fetches.add(("activation", output.name), output.value)

    def _fetch_fed_tensors(self) -> None:
        """Inputs and labels made from tensors are fed by nobody: they are fetched."""
        for key, tensor in unfed(self._model):
            self._fetches.add(key, tensor)

    def call(self, function: Any, inputs: Any) -> Any:
        """One step: state, the framework's own call, state."""
        same_fit = self._history is getattr(self._model, "history", None)
        if not self._session.whole and not (same_fit and is_amid_a_fit(self._model)):
            # An exception ended the fit that attached this hook; this is another training.
            self.detach()
            return function(inputs)
        if self._session.replay is not None:
            inputs = self._session.replay.play(GraphPlayer(self), inputs)
        if not self._session.alive:
            return function(inputs)
        guard = self._session.guard
        self._fetches.begin()
        batch = guard(self._batch, inputs)
        before = guard(self._before)
        rate = guard(learning_rate_of, self._model.optimizer, self._backend, self._read_rate)
        outputs = function(inputs)
        guard(self._record, batch, before, rate, outputs)
        return outputs

    def _record(
        self, batch: Dict[Key, np.ndarray], before: Dict[Key, np.ndarray], rate: Any, outputs: Any
    ) -> None:
        observed: Dict[Key, Value] = dict(batch)
        observed.update(self._fetches.values())
        values = outputs if isinstance(outputs, (list, tuple)) else [outputs]
        observed["loss", "loss"] = np.array(values[0])
        observed.update(listed_metrics(self._model, self._layers, values[1:]))
        if rate is not None:
            observed.setdefault(RATE, rate)
        if RATE not in observed:
            name = type(self._model.optimizer).__name__
            self._session.event("not-recorded", NO_RATE.format(name))
        self._session.step(
            self._model,
            self._layers,
            self._state,
            self._describe,
            before=before,
            observed=observed,
            after=self._after(),
            aliases=self._aliases,
            places=self._places,
        )

    def places(self) -> Dict[int, Key]:
        """Which part of a batch each placeholder of the train function takes, by identity."""
        return places_of(self._model, self._function)

    def _batch(self, inputs: Any) -> Dict[Key, np.ndarray]:
        return batch_of(self.places(), self._function, inputs, self._fetches)

    def _before(self) -> Dict[Key, np.ndarray]:
        keys = {tensor.key for tensor in self._state}
        quiet = self._runs is not None and self._runs.none_since
        if quiet and self._session.unchanged(self._model, keys):
            return {}
        return self._session.before(self._model, self._views())

    def _after(self) -> Dict[Key, np.ndarray]:
        return self._views() if self._runs is None else self._runs.read(self._views)

    def _views(self) -> Dict[Key, np.ndarray]:
        """The state in memory that may be the variables' own."""
        variables = [tensor.variable for tensor in self._state]
        values = self._read(self._backend.get_session(), variables) if variables else []
        return {t.key: np.asarray(value) for t, value in zip(self._state, values)}

    def _describe(self) -> StackDescription:
        tensorflow = sys.modules["tensorflow"]
        backend = self._backend
        session = backend.get_session()
        config = session._config
        label = f"{keras_of(self._model)} on TensorFlow {tensorflow.__version__}"
        environment = {
            "devices": [device.name for device in session.list_devices()],
            "threads": {
                "intra": config.intra_op_parallelism_threads if config else 0,
                "inter": config.inter_op_parallelism_threads if config else 0,
            },
            "flags": {"eager": False, "jit_compile": False, "floatx": backend.floatx()},
            "tensorflow_seed": backend.get_graph().seed,
        }
        capture = {
            "gradients": "extra fetches of the train function; no operation added to the graph",
            "raw_gradients": True,
            "state": "read between steps",
            "disturbs": "nothing known",
        }
        return StackDescription("keras-graph", label, "tensorflow", environment, capture)


def _models_inside(model: Any) -> List[Any]:
    """The models among the layers of a model, at any depth."""
    found = []
    for layer in model.layers:
        if is_model(layer):
            found += [layer, *_models_inside(layer)]
    return found
