"""Keras 2.3, tf.keras on TensorFlow 1.15, and graph mode on TensorFlow 2.

A step is one call of a `GraphExecutionFunction`.

The gradients ride along as extra fetches of the train function; the batch is what is passed to its
``__call__``; the state is read between steps, because inside one session call reading races with
updating.
"""

import sys
from typing import Any, Dict, List, NamedTuple, Optional, Sequence

import numpy as np

from tracediff_hooks import v1_optimizer
from tracediff_hooks.composite import is_composite, plain_arrays
from tracediff_hooks.describe import StackDescription
from tracediff_hooks.generations.gradient_registry import gradients_of
from tracediff_hooks.generations.graph_mode import keras_of, unsupported
from tracediff_hooks.generations.graph_optimizer import (
    decayed_rate,
    dtype_of,
    learning_rate_of,
    slots_of,
)
from tracediff_hooks.generations.graph_outputs import calls_in_graph
from tracediff_hooks.generations.session_runs import Reader, SessionRuns
from tracediff_hooks.names import is_model, metric_name, named_layers
from tracediff_hooks.replay.in_graph import GraphPlayer
from tracediff_hooks.session import Session
from tracediff_hooks.state import StateTensor, weight_tensors
from tracediff_hooks.tensors import Key, SparseRows, Value

RATE = ("learning_rate", "optimizer/learning_rate")


class _Fetched(NamedTuple):
    """Where a fetched tensor belongs."""

    key: Key
    part: str


class KerasGraphHook:
    """Records a model of a graph stack from `attach` to `detach`."""

    def __init__(self, model: Any, session: Session) -> None:
        self._model = model
        self._session = session
        self._function: Any = None
        self._plain_class: Any = None
        self._backend: Any = None
        self._fetches: List[Any] = []
        self._fetched: Dict[_Fetched, np.ndarray] = {}
        self._aliases: List[Key] = []
        self._places: Dict[str, str] = {}
        self._layers: List[Any] = []
        self._state: List[StateTensor] = []
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
        for tensor in self._fetches:
            function.fetches.remove(tensor)
            function.fetch_callbacks.pop(tensor, None)
        self._fetches = []
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
        weights = weight_tensors(self._layers, self._model.trainable_weights, dtype_of)
        self._state = weights + slots_of(
            self._model.optimizer,
            weights,
            getattr(self._model, "_collected_trainable_weights", []),
        )
        self._function = function
        self._plain_class = type(function)
        self._fetch_gradients(function, weights)
        self._fetch_decayed_rate(function)
        self._fetch_fed_tensors(function)
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

    def _fetch_gradients(self, function: Any, weights: List[StateTensor]) -> None:
        self._aliases = []
        built = gradients_of(self._model.optimizer)
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
            self._fetch_gradient(function, ("gradient", name), raw)
            if applied is raw:
                self._aliases.append(("applied_gradient", name))
            else:
                self._fetch_gradient(function, ("applied_gradient", name), applied)

    def _fetch_decayed_rate(self, function: Any) -> None:
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
            self._fetch(function, _Fetched(RATE, "dense"), rate)

    def _fetch_gradient(self, function: Any, key: Key, tensor: Any) -> None:
        if hasattr(tensor, "indices"):
            self._fetch(function, _Fetched(key, "values"), tensor.values)
            self._fetch(function, _Fetched(key, "rows"), tensor.indices)
        else:
            self._fetch(function, _Fetched(key, "dense"), tensor)

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
            self._fetch(function, _Fetched(("activation", output.name), "dense"), output.value)

    def _fetch_fed_tensors(self, function: Any) -> None:
        """Inputs made from tensors are fed by nobody: they are fetched."""
        fed = {id(tensor) for tensor in self._model._feed_inputs}
        for position, tensor in enumerate(self._model.inputs or []):
            if id(tensor) not in fed:
                key = ("input", f"input/{position}")
                self._fetch(function, _Fetched(key, "dense"), tensor)

    def _fetch(self, function: Any, place: _Fetched, tensor: Any) -> None:
        if tensor in function.fetches:
            previous = function.fetch_callbacks.get(tensor)
        else:
            previous = None
            function.fetches.append(tensor)
            self._fetches.append(tensor)

        def keep(value: Any) -> None:
            if previous is not None:
                previous(value)
            self._fetched[place] = value

        function.fetch_callbacks[tensor] = keep

    def call(self, function: Any, inputs: Any) -> Any:
        """One step: state, the framework's own call, state."""
        if self._history is not getattr(self._model, "history", None) and not self._session.whole:
            # An exception ended the fit that attached this hook; this is another one.
            self.detach()
            return function(inputs)
        if self._session.replay is not None:
            inputs = self._session.replay.play(GraphPlayer(self), inputs)
        if not self._session.alive:
            return function(inputs)
        guard = self._session.guard
        self._fetched = {}
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
        observed.update(self._gradients())
        values = outputs if isinstance(outputs, (list, tuple)) else [outputs]
        observed["loss", "loss"] = np.array(values[0])
        observed.update(self._metrics(values[1:]))
        if rate is not None:
            observed.setdefault(RATE, rate)
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

    def _gradients(self) -> Dict[Key, Value]:
        found: Dict[Key, Value] = {}
        for place, value in self._fetched.items():
            if place.part == "dense":
                found.update(plain_arrays(place.key, value, np.asarray))
            elif place.part == "values":
                rows = np.array(self._fetched[_Fetched(place.key, "rows")], np.int64)
                found[place.key] = SparseRows(np.asarray(value), rows)
        return found

    def _metrics(self, values: Any) -> Dict[Key, np.ndarray]:
        model = self._model
        outputs = [n for n in getattr(model, "output_names", []) if len(model.output_names) > 1]
        renamed = {str(entry.layer.name): entry.name for entry in self._layers}
        found: Dict[Key, np.ndarray] = {}
        for name, value in zip(model.metrics_names[1:], values):
            if any(name == output + "_loss" for output in outputs):
                continue
            canonical = name
            for output in outputs:
                if name.startswith(output + "_") and output in renamed:
                    canonical = renamed[output] + name[len(output) :]
                    break
            found["metric", "metric/" + metric_name(canonical)] = np.array(value)
        return found

    def places(self) -> Dict[int, Key]:
        """Which part of a batch each placeholder of the train function takes, by identity.

        Told by position, as Keras feeds them: an evaluation without sample weights gives the model
        other placeholders for them, and the train function keeps those that it was built with.
        """
        model = self._model
        targets = len(model._feed_targets)
        known = [("input", position) for position in self._input_positions()]
        known += [("label", position) for position in range(targets)]
        # Behind the sample weights stands the learning phase, which is the only scalar.
        rest = [tensor for tensor in self._function.inputs[len(known) :] if tensor.shape.ndims != 0]
        known += [("sample_weight", position) for position in range(len(rest))]
        return {
            id(tensor): (role, f"{role}/{position}")
            for tensor, (role, position) in zip(self._function.inputs, known)
        }

    def _batch(self, inputs: Any) -> Dict[Key, np.ndarray]:
        places = self.places()
        found: Dict[Key, np.ndarray] = {}
        for tensor, value in zip(self._function.inputs, inputs):
            key = places.get(id(tensor))
            if key is None or value is None:
                continue
            if hasattr(value, "graph"):
                # A batch of tf.data is a tensor until the step runs: it is fetched with the step.
                if _Fetched(key, "dense") not in self._fetched and value not in self._fetches:
                    self._fetch(self._function, _Fetched(key, "dense"), value)
                continue
            if is_composite(value):
                found.update(plain_arrays(key, value, np.asarray))
                continue
            array = np.array(value, dtype=tensor.dtype.as_numpy_dtype)
            if key[0] == "sample_weight" and (array == 1).all():
                continue  # the framework feeds ones where the user gave none
            found[key] = array
        return found

    def _input_positions(self) -> Sequence[int]:
        fed = self._model._feed_inputs
        known = [id(tensor) for tensor in self._model.inputs or []]
        if all(id(tensor) in known for tensor in fed):
            return [known.index(id(tensor)) for tensor in fed]
        return range(len(fed))

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
