"""A step that several replicas compute side by side, each on a part of the batch.

`tf.distribute.MirroredStrategy` runs `train_step` once for each replica, in threads that take turns
while the step is traced, or run eagerly. What each has seen leaves the step with its own logs, and
is put together on the host to what a step on one device would have had: the batch is that of all
replicas, the loss and the gradients are sums over them. Where the framework has added up gradients,
every replica holds the sum, and that of the first is taken.

Of each variable there is a copy on every replica. The first is recorded; that another has other
bits is an event.
"""

import contextlib
import threading
from typing import Any, Callable, Dict, Iterator, List, Mapping, Optional, Sequence, Tuple

import numpy as np

from tracediff_hooks.generations.step_taps import TAPS, Pairs, StepTaps, copies_of, replaced, view
from tracediff_hooks.outputs import LayerOutput
from tracediff_hooks.state import StateTensor
from tracediff_hooks.tensors import Key, ScaledBy, SparseRows, Value, same_value

GRADIENTS = ("gradient", "applied_gradient")
BATCH_ROLES = ("input", "label", "sample_weight")
SUPPORTED = ("MirroredStrategy", "MirroredStrategyV1")
SHOWN = 3
"""Tensors that an event names, of those whose copies differ."""


def replicas_of(model: Any) -> int:
    """On how many replicas a model is trained."""
    strategy = getattr(model, "distribute_strategy", None)
    return int(getattr(strategy, "num_replicas_in_sync", 1))


def unsupported(strategy: Any, *, replay: bool) -> Optional[str]:
    """Why a training on several replicas cannot be recorded, or controlled, or None."""
    trained = (
        f"nothing is recorded: the model is trained by a {type(strategy).__name__} on "
        f"{strategy.num_replicas_in_sync} replicas, and "
    )
    if not any(cls.__name__ in SUPPORTED for cls in type(strategy).__mro__):
        return trained + "of strategies with several only MirroredStrategy is; record it on one"
    if replay:
        return trained + "a replay feeds one; replay it on one"
    return None


def replica() -> int:
    """Which replica the step that is being traced in this thread belongs to."""
    # The context of a replica tells its number as a tensor in some versions; its thread does not.
    return int(getattr(threading.current_thread(), "replica_id", 0))


class ReplicaTaps:
    """Stands for the `StepTaps` of all replicas: each sees what happens in its own.

    Args:
        strategy: what runs the step on several replicas.
        new_taps: makes the taps of one.
    """

    def __init__(self, strategy: Any, new_taps: Callable[[], StepTaps]) -> None:
        self._strategy = strategy
        self._each = [new_taps() for _ in range(strategy.num_replicas_in_sync)]
        self._first: Optional[Dict[str, Any]] = None
        self._left_out: List[Tuple[str, str]] = []
        self.scaled: Dict[int, ScaledBy] = {}

    @property
    def _own(self) -> StepTaps:
        return self._each[replica()]

    @contextlib.contextmanager
    def collect(self) -> Iterator[None]:
        """Starts anew: the step of this replica is being traced."""
        if replica() == 0:
            self._first = None
            self.scaled = {}
        with self._own.collect():
            yield

    def saw(
        self, role: str, pairs: Pairs, *, unless_seen: bool = False, partial: bool = False
    ) -> None:
        """Notes gradients of this replica with their variables."""
        self._own.saw(role, pairs, unless_seen=unless_seen, partial=partial)

    def saw_loss(self, loss: Any) -> None:
        """Notes this replica's share of the loss."""
        self._own.saw_loss(loss)

    def saw_call(self, layer: Any, inputs: Any, outputs: Any) -> None:
        """Notes what a layer put out on this replica."""
        self._own.saw_call(layer, inputs, outputs)

    def batch(self, *parts: Any) -> Dict[Key, Any]:
        """Numbers the tensors of this replica's part of the batch."""
        return self._own.batch(*parts)

    @property
    def scratch(self) -> Dict[str, Any]:
        """What a probe keeps from one of this replica's calls to another."""
        return self._own.scratch

    @property
    def calls(self) -> List[Tuple[Any, Any]]:
        """The layers that this replica called."""
        return self._own.calls

    @property
    def places(self) -> Dict[str, str]:
        """Each layer output that leaves the step, and its layer; alike on all replicas."""
        return self._each[0].places

    @property
    def graph(self) -> Any:
        """The graph into which this replica's step is traced; None where it runs eagerly."""
        return self._own.graph

    @property
    def unrecordable(self) -> List[Tuple[str, str]]:
        """What cannot leave the step on any replica."""
        said = [event for taps in self._each for event in taps.unrecordable]
        return list(dict.fromkeys(said + self._left_out))

    def outputs(
        self, batch: Mapping[Key, Any], activations: Sequence[LayerOutput] = ()
    ) -> Dict[str, Any]:
        """What this replica's step is to return besides its logs."""
        flat = self._own.outputs(batch, activations)
        if replica() == 0:
            self._first = flat
        elif self._first is not None and set(flat) != set(self._first):
            raise ValueError("the replicas of a step have not computed the same tensors")
        return flat

    def alike(self, flat: Optional[Dict[str, Any]]) -> Optional[Dict[str, Any]]:
        """What this replica returns where it failed: a strategy wants the same keys of all."""
        return self._first if flat is None or self._first is None else flat

    @contextlib.contextmanager
    def passing(self, guard: Callable[..., Any]) -> Iterator[None]:
        """Lets what the replicas return past the framework's reduction of logs.

        Args:
            guard: runs part of the recording, so that an error ends that and not the training.
        """
        run = self._strategy.run

        def run_and_keep(*args: Any, **kwargs: Any) -> Any:
            returned = run(*args, **kwargs)
            if not isinstance(returned, dict) or TAPS not in returned:
                return returned
            returned = dict(returned)
            taps = guard(self._pieces, returned.pop(TAPS))
            if taps is not None:
                returned[TAPS] = taps
            return returned

        with replaced(self._strategy, "run", run_and_keep):
            yield

    def _pieces(self, taps: Mapping[str, Any]) -> Dict[str, Tuple[Any, ...]]:
        """The tensors of each replica, plainly: of gradients that were added up, the first's."""
        found = {}
        for place, value in taps.items():
            pieces = tuple(self._strategy.experimental_local_results(value))
            role, _, rest = place.partition(" ")
            if role in GRADIENTS and (role, int(rest.split(" ")[0])) not in self._each[0].partial:
                pieces = pieces[:1]
            found[place] = pieces
        return found

    def values(
        self, taps: Mapping[str, Sequence[Any]], weight_names: Mapping[int, str]
    ) -> Tuple[Dict[Key, Value], List[Key]]:
        """What came out of the step, put together, under canonical names.

        Args:
            taps: the entry taken off the logs, as `passing` has left it.
            weight_names: identity of each variable -> canonical name.

        Returns:
            The values, and the applied gradients that are the raw ones.
        """
        self._left_out = []
        parts: List[Dict[Key, Value]] = []
        aliases: List[Key] = []
        for number, own in enumerate(self._each):
            # A sum over all replicas, or what all of them were given alike, comes with the first.
            flat = {place: pieces[number] for place, pieces in taps.items() if number < len(pieces)}
            found, same = own.values(flat, weight_names)
            aliases = aliases or same
            parts.append(found)
        partial = {(role, weight_names.get(place)) for role, place in self._each[0].partial}
        rows = [_rows(part) for part in parts]
        together: Dict[Key, Value] = {}
        for key in parts[0]:
            value: Optional[Value] = parts[0][key]
            pieces = [part[key] for part in parts if key in part]
            if key[0] == "loss" or key in partial:
                value = _sum(pieces if len(pieces) > 1 else pieces * len(parts))
            elif key[0] not in GRADIENTS and len(pieces) > 1:
                value = _joined(pieces, None if key[0] in BATCH_ROLES else rows)
            if value is not None:
                together[key] = value
                continue
            message = f"{key[1]} is not recorded: its shape is another one on each replica"
            self._left_out.append(("not-recorded", message))
        return together, aliases


def _rows(part: Mapping[Key, Value]) -> Optional[int]:
    """How many rows of the batch a replica was given."""
    for (role, _), value in part.items():
        if role == "input" and np.ndim(value):
            return len(value)
    return None


def _sum(pieces: Sequence[Any]) -> Value:
    if isinstance(pieces[0], SparseRows):
        values = np.concatenate([piece.values for piece in pieces])
        return SparseRows(values, np.concatenate([piece.rows for piece in pieces]))
    total = np.array(pieces[0])
    for piece in pieces[1:]:
        total = total + piece
    return np.asarray(total, dtype=np.asarray(pieces[0]).dtype)


def _joined(pieces: Sequence[Any], rows: Optional[Sequence[Optional[int]]]) -> Optional[np.ndarray]:
    """The parts of a batch, or of what layers put out for it, one after the other.

    Args:
        pieces: what each replica has.
        rows: how many rows of the batch each replica was given; None for what is fed, which is
            always in parts: the values of a ragged tensor have a length of their own.

    What does not have as many rows as the batch, such as the encoding of positions, and is the same
    on all replicas is taken once.
    """
    arrays = [np.asarray(piece) for piece in pieces]
    of_batch = all(
        a.ndim and (rows is None or len(a) == rows[number]) for number, a in enumerate(arrays)
    )
    # Rows are unknown where every replica was given the whole batch.
    if not of_batch and all(same_value(arrays[0], array) for array in arrays[1:]):
        return arrays[0]
    if len({array.shape[1:] for array in arrays}) > 1:
        return None
    return np.concatenate(arrays) if arrays[0].ndim else np.stack(arrays)


class Copies:
    """Finds variables whose copies on the replicas have come apart.

    Args:
        event: takes the kind and the text of an event.
    """

    def __init__(self, event: Callable[[str, str], None]) -> None:
        self._event = event
        self._said = False

    def check(self, state: Sequence[StateTensor], native: Callable[[Any], Any]) -> None:
        """Compares the copies of each variable, until some were found to differ."""
        if self._said:
            return
        apart = [tensor.spec.name for tensor in state if _apart(native(tensor.variable))]
        if not apart:
            return
        self._said = True
        names = ", ".join(apart[:SHOWN]) + (", ..." if len(apart) > SHOWN else "")
        self._event(
            "replicas-differ",
            f"the replicas hold different values of {len(apart)} of {len(state)} weights and slots "
            f"({names}); recorded is what the first of them holds",
        )


def _apart(variable: Any) -> bool:
    copies = copies_of(variable)
    return any(not same_value(view(copies[0]), view(copy)) for copy in copies[1:])
