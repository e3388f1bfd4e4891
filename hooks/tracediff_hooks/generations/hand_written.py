"""Records training loops that a script writes itself: a tape, and an optimizer's update method.

A loop that runs eagerly is seen at each update. One that the script's own `tf.function` has
compiled runs no Python that could be watched: it is recorded when it is called through
`HandWrittenLoop.step`, and said to be lost when it is not.
"""

import contextlib
import functools
import sys
from typing import Any, Callable, Dict, List, Mapping, Optional, Tuple

import numpy as np

from tracediff_hooks.batches import input_names
from tracediff_hooks.composite import plain_arrays
from tracediff_hooks.generations.layer_calls import layer_calls
from tracediff_hooks.generations.on_host import on_host
from tracediff_hooks.generations.optimizers import inner_of, optimizers_of
from tracediff_hooks.generations.step_taps import TAPS
from tracediff_hooks.tensors import Key, Value

ON_REPLICAS = (
    "of a training on several replicas only what fit and train_on_batch do with the model's own "
    "optimizers is recorded: the script's own loop is not"
)
COMPILED = (
    "updates that the script's own torch.compile compiles are not recorded: nothing of them can be "
    "seen from outside; compile the forward pass alone, and leave the update as it is written"
)
COMPILED_FORWARD = (
    "the forward pass is compiled by the script's own torch.compile and cannot be seen: its input "
    "is recorded where recording.batch(x=...) tells it, layer outputs are not, and what it "
    "changes, such as moving averages, counts as changed between two steps"
)
FUNCTIONS = 32
"""How many of the script's own compiled steps are kept in the form that is recorded: a script that
compiles one for each step goes on for as long as it likes."""


class HandWrittenLoop:
    """Watches the updates of one model's weights, from `attach` to `detach`.

    Args:
        hook: the hook of the model's generation.
    """

    def __init__(self, hook: Any) -> None:
        self.optimizers: List[Tuple[str, Any]] = []
        self._hook = hook
        self._watching = contextlib.ExitStack()
        self._told: Dict[Key, Value] = {}
        self._seen: List[Tuple[Any, Any]] = []
        self._calls: List[Tuple[Any, Any]] = []
        self._compiled: Dict[int, Tuple[Any, Any]] = {}
        self._busy = False
        self._compiling = self._compiled_forward = False
        self._forward = False
        self._first_rates: Dict[Key, Value] = {}

    def attach(self) -> None:
        """Begins to watch every optimizer of the framework, and which layers are called."""
        for owner, name in self._hook._update_methods():
            self._watch(owner, name)
        self._watching.enter_context(
            layer_calls(self._hook._layer_class(), self._saw_call, self._begins_call)
        )

    def _watch(self, owner: Any, name: str) -> None:
        original = getattr(owner, name)

        @functools.wraps(original)
        def update(optimizer: Any, *args: Any, **kwargs: Any) -> Any:
            call = functools.partial(original, optimizer)
            return self._update(optimizer, call, args, kwargs)

        setattr(owner, name, update)
        self._watching.callback(setattr, owner, name, original)

    def detach(self) -> None:
        """Ends the watching."""
        self._watching.close()
        if self._compiling:
            self._hook.session.event("not-recorded", COMPILED)

    def tell(self, told: Mapping[Key, Value]) -> None:
        """Takes what the script tells of the step that it is about to make."""
        self._told.update(told)

    def _is_forward(self) -> bool:
        """Whether a layer that is called at this moment is part of a step of the script's."""
        hook = self._hook
        if hook._is_compiling():
            self._compiled_forward = True
            return False
        if self._busy or hook.tracing:
            return False
        return bool(hook._runs_eagerly() and hook._notes_gradients())

    def _begins_call(self, layer: Any) -> None:
        if layer is self._hook._model and not self._forward and self._is_forward():
            self._forward = True
            self._hook.session.guard(self._hook.begin_forward)

    def _saw_call(self, layer: Any, inputs: Any, outputs: Any) -> None:
        hook = self._hook
        if not self._is_forward():
            return
        if layer is hook._model and inputs:
            self._seen.append((layer, inputs[0]))
        elif hook.session.choice:
            self._calls.append((layer, hook.session.guard(hook._keep, outputs)))

    def _ours(self, optimizer: Any, args: Any, kwargs: Any) -> List[Tuple[Any, Any]]:
        """The gradients of this model's weights among those that an optimizer is given."""
        own = {id(variable) for variable in self._hook._model.trainable_weights}
        pairs = self._hook._pairs(optimizer, *args, **kwargs)
        return [(g, v) for g, v in pairs if g is not None and id(v) in own]

    def _update(self, optimizer: Any, call: Any, args: Any, kwargs: Any) -> Any:
        hook = self._hook
        if hook._is_compiling():
            # Whatever is done here becomes part of what the script compiles.
            self._compiling = True
            return call(*args, **kwargs)
        if not hook.session.alive or (self._busy and not hook.tracing):
            return call(*args, **kwargs)
        args = tuple(list(a) if hasattr(a, "__next__") else a for a in args)
        pairs = hook.session.guard(self._ours, optimizer, args, kwargs)
        if not pairs:
            return call(*args, **kwargs)
        owner = hook.session.guard(self._owner, optimizer) or optimizer
        if hook.replicas > 1 and all(owner is not one for one in hook.probed):
            hook.session.event("not-recorded", ON_REPLICAS)
            return call(*args, **kwargs)
        if hook.tracing:
            return self._traced_update(optimizer, call, args, kwargs, pairs)
        if not hook._runs_eagerly():
            hook.session.event("not-recorded", hook.unseen)
            return call(*args, **kwargs)
        self._busy = True
        try:
            return self._eager_update(optimizer, call, args, kwargs, pairs)
        finally:
            self._busy = self._forward = False
            hook.end_forward()
            self._told, self._seen, self._calls = {}, [], []

    def _traced_update(
        self, optimizer: Any, call: Any, args: Any, kwargs: Any, pairs: List[Tuple[Any, Any]]
    ) -> Any:
        """Notes the update of an optimizer that nobody knew when the trace began."""
        hook, guard = self._hook, self._hook.session.guard
        owner = guard(self._owner, optimizer) or optimizer
        if any(owner is one for one in hook.probed):
            return call(*args, **kwargs)
        guard(self._know, optimizer)
        guard(self._read_first_rate, optimizer)
        self._saw(optimizer, pairs)
        with contextlib.ExitStack() as stack:
            guard(hook._probe_applied, stack, optimizer, pairs)
            return call(*args, **kwargs)

    def _read_first_rate(self, optimizer: Any) -> None:
        """Reads the rate of a step being traced, whose optimizer nobody knew before."""
        name = next(name for name, known in self._hook.optimizers() if known is optimizer)
        with self._hook._at_once():
            rate = self._hook._learning_rate(optimizer)
        if rate is not None:
            self._first_rates["learning_rate", name + "/learning_rate"] = rate

    def _eager_update(
        self, optimizer: Any, call: Any, args: Any, kwargs: Any, pairs: List[Tuple[Any, Any]]
    ) -> Any:
        hook, guard = self._hook, self._hook.session.guard
        guard(self._know, optimizer)
        guard(hook._create_state, optimizer, hook._pairs(optimizer, *args, **kwargs))
        before, rates = guard(hook.before) or ({}, {})
        with hook._taps.collect(), contextlib.ExitStack() as stack:
            self._saw(optimizer, pairs)
            guard(hook._probe_applied, stack, optimizer, pairs)
            result = call(*args, **kwargs)
        guard(self._record, before, rates)
        return result

    def _owner(self, optimizer: Any) -> Any:
        """The model's optimizer that this one is inside of, to scale the loss; else itself."""
        known = [one for _, one in optimizers_of(self._hook._model)]
        return next((one for one in known if inner_of(one) is optimizer), optimizer)

    def _saw(self, optimizer: Any, pairs: List[Tuple[Any, Any]]) -> None:
        """Notes the gradients that an optimizer is given, and whether they are of a scaled loss."""
        self._hook._taps.saw("gradient", pairs)
        if self._hook.given_scaled:
            variables = [variable for _, variable in pairs]
            self._hook.session.guard(self._hook.note_scale, optimizer, variables)

    def _know(self, optimizer: Any) -> None:
        if all(optimizer is not known for _, known in self._hook.optimizers()):
            count = len(self.optimizers)
            taken = getattr(self._hook._model, "optimizer", None) is not None or count
            name = f"optimizer_{count + 1}" if taken else "optimizer"
            self.optimizers.append((name, optimizer))
        self._hook.used.add(id(optimizer))

    def _record(self, before: Dict[Key, np.ndarray], rates: Mapping[Key, Value]) -> None:
        hook = self._hook
        hook._find_state()
        told = dict(self._told)
        if not any(role == "input" for role, _ in told) and self._seen:
            told.update(arrays_of(input_names("input", self._seen[0][1])))
        if self._compiled_forward:
            hook.session.event("not-recorded", COMPILED_FORWARD)
        if len(self._seen) > 1:
            hook.session.event(
                "several-calls",
                "the model is called more than once for an update; the recorded input is that of "
                "the first call",
            )
        outputs = hook.session.choice.of(self._calls, hook._layers)
        taps = hook._taps.outputs({}, outputs)
        hook.record(taps, before, rates, {}, told=told)

    def step(self, function: Any, args: Any, kwargs: Any) -> Any:
        """Runs a step that the script has written and compiled, and records it.

        Args:
            function: a `tf.function`, or a Python function that runs eagerly.
            args: what it is called with: the input, the labels, the sample weights.
            kwargs: more of that; recorded is what goes by position.
        """
        hook, guard = self._hook, self._hook.session.guard
        if hook.replicas > 1:
            hook.session.event("not-recorded", ON_REPLICAS)
            return function(*args, **kwargs)
        if not hasattr(function, "python_function") or not hook.session.alive:
            self.tell(guard(batch_of, args) or {})
            return function(*args, **kwargs)
        compiled = guard(self._clone, function)
        if compiled is None:
            return function(*args, **kwargs)
        before, rates = guard(hook.before) or ({}, {})
        self._first_rates = {}
        self._busy = True
        try:
            returned = compiled(*args, **kwargs)
        finally:
            self._busy = False
        told: Dict[Key, Value] = dict(guard(batch_of, args) or {})
        loss = guard(loss_of, returned["result"])
        if loss is not None:
            told["loss", "loss"] = loss
        rates = {**self._first_rates, **rates}
        record = functools.partial(hook.record, told=told)
        guard(record, returned.get(TAPS) or {}, before, rates, {})
        self._told = {}
        return returned["result"]

    def _clone(self, function: Any) -> Any:
        """A compiled step that puts out what is recorded besides its result."""
        if id(function) not in self._compiled:
            if len(self._compiled) >= FUNCTIONS:
                del self._compiled[next(iter(self._compiled))]
            tapped = self._tapped(function.python_function)
            # Kept, so that no other function gets its identity.
            self._compiled[id(function)] = function, function._clone(tapped)
        return self._compiled[id(function)][1]

    def _tapped(self, python_function: Callable[..., Any]) -> Callable[..., Any]:
        hook = self._hook
        # The script's function is for autograph to convert, and ours is not.
        as_it_is = sys.modules["tensorflow"].autograph.experimental.do_not_convert
        outputs = as_it_is(lambda: hook.session.guard(hook.outputs, None) or {})

        def tapped_step(*args: Any, **kwargs: Any) -> Any:
            with hook.collecting():
                result = python_function(*args, **kwargs)
            return {"result": result, TAPS: outputs()}

        return tapped_step


def batch_of(args: Any) -> Dict[Key, Value]:
    """A step's arguments as input, labels and sample weights; one tuple is what it holds."""
    if len(args) == 1 and isinstance(args[0], tuple):
        args = args[0]
    named: List[Tuple[Key, Any]] = []
    for role, value in zip(("input", "label", "sample_weight"), args):
        named += input_names(role, value)
    return arrays_of(named)


def arrays_of(named: List[Tuple[Key, Any]]) -> Dict[Key, Value]:
    """Copies of tensors and arrays on the host; whatever holds no numbers is left out."""
    found: Dict[Key, Value] = {}
    for key, value in named:
        for part, array in plain_arrays(key, value, on_host).items():
            if array.dtype != object:
                found[part] = np.array(array)
    return found


def loss_of(result: Any) -> Optional[np.ndarray]:
    """The loss in what a step returned: a scalar, the first of several, or the entry ``loss``."""
    if isinstance(result, dict):
        result = result.get("loss")
    if isinstance(result, (list, tuple)):
        result = result[0] if result else None
    array = None if result is None else np.array(on_host(result))
    return array if array is not None and array.dtype.kind == "f" and array.ndim == 0 else None


def on_tape() -> bool:
    """Whether a GradientTape is recording: what is called outside of one is no training."""
    for name in ("tensorflow.python.eager.record", "tensorflow.python.eager.tape"):
        module: Any = sys.modules.get(name)
        if hasattr(module, "could_possibly_record"):
            return bool(module.could_possibly_record())
    return True
