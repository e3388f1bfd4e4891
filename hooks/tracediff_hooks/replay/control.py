"""Keeps a training on what another run recorded, step by step.

Knows no framework: a player (`in_step`, `in_graph`) sets the state of its model and feeds it.
"""

from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple

import numpy as np

from tracediff_hooks.describe import StackDescription, describe_model
from tracediff_hooks.random_layers import draws
from tracediff_hooks.replay.options import Replay
from tracediff_hooks.replay.own_batches import OwnBatches
from tracediff_hooks.replay.pairing import StatePairing, left_over, pair_state
from tracediff_hooks.replay.reader import BATCH_ROLES, STATE_ROLES, RecordedRun
from tracediff_hooks.replay.refused import ReplayRefused
from tracediff_hooks.state import StateTensor
from tracediff_hooks.tensors import Key

Values = Sequence[Tuple[StateTensor, np.ndarray]]
Batch = Dict[Key, np.ndarray]


class Player:
    """What a generation does for a replay. The methods that raise are to be overridden.

    Args:
        hook: the generation's hook, attached to the model.
    """

    def __init__(self, hook: Any) -> None:
        self._hook = hook
        self.model: Any = hook._model

    @property
    def layers(self) -> Sequence[Any]:
        """The model's layers with their canonical names."""
        return self._hook._layers  # type: ignore[no-any-return]

    def describe(self) -> StackDescription:
        """What the generation tells about itself."""
        return self._hook._describe()  # type: ignore[no-any-return]

    def state(self, inputs: Sequence[np.ndarray]) -> List[StateTensor]:
        """All of the state; makes the variables that the first step would make.

        Args:
            inputs: a batch of A's inputs, to build a model that was not given an input shape.
        """
        raise NotImplementedError

    def assign(self, values: Values) -> None:
        """Sets variables, between steps."""
        raise NotImplementedError

    def draw(self, fed: Any) -> Any:
        """What the script's own pipeline gives for this step; raises where its epoch ends."""
        raise NotImplementedError

    def arrays(self, own: Any) -> Dict[Key, np.ndarray]:
        """The tensors of a batch of the script's own pipeline, by role and name."""
        raise NotImplementedError

    def feed(self, fed: Any, own: Any, batch: Batch, *, weighted: bool) -> Any:
        """What the framework's step is to be called with for a batch of A.

        Args:
            fed: what it would be called with.
            own: what `draw` returned.
            batch: A's tensors by key.
            weighted: whether A's run has sample weights at all.
        """
        raise NotImplementedError

    def out_of_data(self) -> BaseException:
        """What the framework takes for the end of its data."""
        raise NotImplementedError


class Control:
    """The replay of one script: which run and step of A comes next, and what is controlled.

    Args:
        replay: what is asked for.
        session: the recording of the script.
        own: records what the script's own pipeline gives; None where nothing does.
    """

    def __init__(self, replay: Replay, session: Any, own: Optional[OwnBatches] = None) -> None:
        self._replay = replay
        self._session = session
        self._own = own
        self._schema: Optional[Tuple[Any, ...]] = None
        self._model: Any = None
        self._runs = 0
        self._run: Optional[RecordedRun] = None
        self._pairing: Optional[StatePairing] = None
        self._step = 0
        self._in_fit = 0
        self._about: Dict[str, Any] = {}
        self._lost: Dict[str, str] = {}

    @property
    def steps(self) -> int:
        """How many steps of the current fit were controlled."""
        return self._in_fit

    def begin_fit(self) -> None:
        """A fit begins."""
        self._in_fit = 0

    def end_fit(self, status: str) -> None:
        """A fit ends with a status, as `Session.end_fit` has it."""
        if self._own is not None:
            self._own.end_fit(status)

    def about(self) -> Mapping[str, Any]:
        """What is controlled and what is not, for the attributes of the run."""
        return self._about

    def play(self, player: Player, fed: Any) -> Any:
        """Sets the state and chooses the batch of the next step.

        Args:
            player: the generation's part.
            fed: what the framework's step would be called with.

        Returns:
            What it is to be called with.

        Raises:
            ReplayRefused: the step cannot be controlled as it was asked for.
        """
        own = player.draw(fed) if self._replay.batches else None
        self._choose_run(player)
        run = self._run
        assert run is not None
        if self._step >= run.steps:
            if self._in_fit == 0:
                raise ReplayRefused(
                    f"{run.path} ends after {run.steps} steps, which is before this fit",
                    hint="record the first run for as long as this script trains",
                )
            raise player.out_of_data()
        if self._replay.lockstep or (self._step == 0 and self._replay.initial_weights):
            self._set_state(player, run)
        if self._replay.batches:
            fed = self._feed(player, run, fed, own)
            if self._own is not None:
                epoch, batch = self._session.epoch, self._session.batch
                self._own.step(lambda: player.arrays(own), epoch, batch)
        self._compare_epochs(run)
        self._step += 1
        self._in_fit += 1
        if self._step == run.steps and self._goes_on():
            # Heeded after the batch by most generations, after the epoch by TensorFlow 2.3.
            player.model.stop_training = True
            self._session.event(
                "replay",
                f"{run.path} ends with step {run.steps - 1}, so training stops there",
            )
        return fed

    def _goes_on(self) -> bool:
        """Whether the fit would train on behind this step, or may do so."""
        expected = self._session.expected_steps()
        return expected is None or self._in_fit < expected

    def _choose_run(self, player: Player) -> None:
        model = player.model
        # In most generations the state is found anew only where variables came to be.
        known = self._schema is not None and self._schema[:2] == (id(model), id(model.optimizer))
        if known and self._in_fit:
            return
        run = self._run if known else None
        if run is None:
            run = self._replay.trace.run(self._runs)
        state = player.state(self._inputs(run))
        schema = (
            id(model),
            id(model.optimizer),
            *((t.spec.role, t.spec.name, t.spec.shape, t.spec.trainable) for t in state),
        )
        if schema == self._schema:
            if self._own is not None:
                self._own.begin_fit(self._session.fit_params)
            return
        if known:
            run = self._replay.trace.run(self._runs)
        self._schema, self._model = schema, model
        self._run, self._step = run, 0
        self._runs += 1
        self._begin_run(player, run, state)
        if self._own is not None:
            expected = self._session.expected_steps()
            self._own.begin_run(player.describe(), self._session.fit_params, expected)

    def _inputs(self, run: RecordedRun) -> List[np.ndarray]:
        found = []
        for tensor in run.of_roles("input"):
            if tensor.name.count("/") > 1:
                return []  # part of a ragged tensor, or of a sparse one
            value = run.observed(tensor, 0)
            if value is not None:
                found.append(value)
        return found

    def _begin_run(self, player: Player, run: RecordedRun, state: Sequence[StateTensor]) -> None:
        self._lost = {}
        self._about = self._replay.about()
        self._about.update(run=run.path, fingerprint=run.fingerprint(), steps=run.steps)
        words = []
        if self._replay.initial_weights:
            roles = STATE_ROLES if self._replay.slots else ("weight",)
            self._pairing = pair_state(run, state, self._replay.mapping, roles=roles)
            words.append(self._state_words(run, state))
        if self._replay.batches:
            if not any(tensor.column >= 0 for tensor in run.of_roles("input")):
                raise ReplayRefused(
                    f"{run.path} recorded no batches to replay",
                    hint="record the first run again; its inputs must hold numbers",
                )
            words.append("its batches")
        about_model = describe_model(player.model, player.layers)
        random = [str(line["name"]) for line in about_model["layers"] if draws(line)]
        # What only A drew is as little controlled.
        random += [name for name in run.random_layers() if name not in random]
        self._about["uncontrolled"] = random
        self._session.event("replay", f"replaying {run.path}: {', and '.join(words)}")
        if random:
            self._session.event(
                "replay-uncontrolled",
                f"the random numbers of {', '.join(random)} are not controlled: each run draws its "
                "own; with --random-layers off on both sides they draw none",
            )

    def _state_words(self, run: RecordedRun, state: Sequence[StateTensor]) -> str:
        pairing = self._pairing
        assert pairing is not None
        weights = sum(1 for tensor in state if tensor.spec.role == "weight")
        if weights and not pairing.weights:
            raise ReplayRefused(
                f"no weight of {run.path} fits this model: " + left_over(pairing.left_in_b, 2),
                hint="are both the same model? tracediff map A B writes a mapping for --map",
            )
        self._about.update(
            carried=len(pairing.carried),
            left_in_b=dict(pairing.left_in_b),
            left_in_a=dict(pairing.left_in_a),
        )
        left = {**pairing.left_in_b, **pairing.left_in_a}
        if left:
            self._session.event("replay-uncontrolled", "not carried over: " + left_over(left))
        moment = "its state before every step" if self._replay.lockstep else "its initial state"
        slots = len(pairing.carried) - pairing.weights
        count = f"{pairing.weights} of {weights} weights, {slots} slots"
        if not self._replay.slots:
            moment, count = "its initial weights", f"{pairing.weights} of {weights}"
        return f"{moment} ({count})"

    def _set_state(self, player: Player, run: RecordedRun) -> None:
        assert self._pairing is not None
        values = []
        for carry in self._pairing.carried:
            value, lost = carry.value(run, self._step)
            name = carry.target.spec.name
            if value is not None:
                values.append((carry.target, value))
            if lost is not None and name not in self._lost:
                self._lost[name] = lost
                self._session.event(
                    "replay-uncontrolled", f"{name} is not carried over exactly: {lost}"
                )
        player.assign(values)

    def _feed(self, player: Player, run: RecordedRun, fed: Any, own: Any) -> Any:
        batch: Batch = {}
        for tensor in run.of_roles(*BATCH_ROLES):
            value = run.observed(tensor, self._step) if tensor.column >= 0 else None
            if value is not None:
                batch[tensor.key] = value
        weighted = bool(run.of_roles("sample_weight"))
        try:
            return player.feed(fed, own, batch, weighted=weighted)
        except ReplayRefused as error:
            raise ReplayRefused(
                f"step {self._step} of {run.path}: {error.message}", hint=error.hint
            ) from None

    def _compare_epochs(self, run: RecordedRun) -> None:
        _, epoch, batch = run.position(self._step)
        here = self._session.epoch, self._session.batch
        if (epoch, batch) != here:
            self._session.event(
                "replay-epochs",
                "this script's own pipeline has another number of batches an epoch than A's: its "
                f"epochs end elsewhere (step {self._step} is batch {batch} of epoch {epoch} in A, "
                f"batch {here[1]} of epoch {here[0]} here)",
            )
