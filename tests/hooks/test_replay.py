"""A replay trains on what another stack recorded: its start, its batches, or its every state.

Programs train on one stack and are replayed on another; the traces are read with the core. Seeds
differ everywhere, so that nothing agrees by itself.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import tracediff
from tracediff.compare import compare

PROGRAMS = Path(__file__).parent / "programs"
MODELS = ("mlp", "cnn", "lstm", "gru")
SGD = [f"{model}:sgd" for model in MODELS]
ROUNDING = 2e-6
"""Above the relative difference of weights of runs that agree to rounding for six steps."""


def runs_of(folder):
    return {path.stem: tracediff.open_trace(path).runs[0] for path in sorted(folder.glob("*.zarr"))}


@pytest.fixture(scope="module")
def old(keras23, tmp_path_factory):
    """Runs of Keras 2.3, controlled by nothing."""
    folder = tmp_path_factory.mktemp("old")
    cells = [*SGD, "mlp:RMSprop", "gru_default:sgd", "dropout:sgd"]
    keras23.run(PROGRAMS / "replayed.py", folder, 1, "-", *cells)
    return folder


@pytest.fixture(scope="module")
def new(keras3, old, tmp_path_factory):
    """Runs of Keras 3: some by themselves, some that replay those of Keras 2.3."""
    folder = tmp_path_factory.mktemp("new")
    cells = [f"{cell}:both" for cell in SGD]
    cells += ["mlp:sgd:weights", "mlp:sgd:batches", "mlp:RMSprop:lockstep"]
    cells += ["gru_default:sgd:both", "dropout:sgd:both", "mlp:sgd", "mlp:RMSprop", "unbuilt:sgd"]
    keras3.run(PROGRAMS / "replayed.py", folder, 2, old, *cells)
    return folder


@pytest.fixture(scope="module")
def old_again(keras23, new, tmp_path_factory):
    """Runs of Keras 2.3 that replay those of Keras 3."""
    folder = tmp_path_factory.mktemp("old-again")
    keras23.run(PROGRAMS / "replayed.py", folder, 3, new, "mlp:sgd:both", "mlp:RMSprop:lockstep")
    return folder


@pytest.fixture(scope="module")
def middle(tf23, old, new, tmp_path_factory):
    """Runs of TensorFlow 2.3 that replay those of the other two."""
    folder = tmp_path_factory.mktemp("middle")
    tf23.run(PROGRAMS / "replayed.py", folder / "old", 4, old, "mlp:sgd:both", "gru:sgd:both")
    tf23.run(PROGRAMS / "replayed.py", folder / "new", 4, new, "unbuilt:sgd:both")
    return folder


def weights(run):
    return [tensor for tensor in run.tensors if tensor.role == "weight"]


def apart(a, b):
    """The largest relative difference of any trained weight at the end."""
    found = []
    for tensor in weights(a):
        if tensor.trainable:
            one = a.read(tensor, a.steps - 1, "after").astype(float)
            other = b.read(b.find("weight", tensor.name), b.steps - 1, "after").astype(float)
            found.append(np.linalg.norm(one - other) / np.linalg.norm(one))
    assert found
    return max(found)


def same_batches(a, b):
    return [
        np.array_equal(
            np.squeeze(a.read(a.find(role, name), step)),
            np.squeeze(b.read(b.find(role, name), step)),
        )
        for step in range(a.steps)
        for role, name in (("input", "input/0"), ("label", "label/0"))
    ]


def same_start(a, b):
    return [
        np.array_equal(a.read(tensor, 0), b.read(b.find("weight", tensor.name), 0))
        for tensor in weights(a)
    ]


# --- initial weights and batches


def test_without_control_the_runs_have_nothing_in_common(old, new):
    a, b = runs_of(old)["mlp-sgd"], runs_of(new)["mlp-sgd"]
    assert not any(same_batches(a, b))
    assert not all(same_start(a, b))
    assert apart(a, b) > 0.1


@pytest.mark.parametrize("model", MODELS)
def test_with_the_start_and_the_batches_of_the_old_run_sgd_agrees_to_rounding(old, new, model):
    a, b = runs_of(old)[f"{model}-sgd"], runs_of(new)[f"{model}-sgd-both"]
    assert a.steps == b.steps == 6
    assert all(same_batches(a, b))
    assert all(same_start(a, b))
    if model != "cnn":  # a bias before batch normalisation is noise, see docs/replay.md
        assert apart(a, b) < ROUNDING
        assert compare(a, b).agree


def test_of_the_cnn_only_the_known_other_moving_variance_is_left(old, new):
    found = compare(old / "cnn-sgd.zarr", new / "cnn-sgd-both.zarr")
    assert found.first_divergence.tensor == "bn/moving_variance"
    assert [cause.code for cause in found.causes] == ["layer.state"]
    origins = {row.tensor for row in found.drift if row.origin}
    assert origins == {"bn/moving_variance"}


def test_the_other_way_round_a_new_run_is_replayed_in_the_old_stack(new, old_again):
    a, b = runs_of(new)["mlp-sgd"], runs_of(old_again)["mlp-sgd-both"]
    assert all(same_batches(a, b) + same_start(a, b))
    assert apart(a, b) < ROUNDING


@pytest.mark.parametrize("cell", ["mlp-sgd", "gru-sgd"])
def test_the_stack_between_them_replays_the_old_run(old, middle, cell):
    a, b = runs_of(old)[cell], runs_of(middle / "old")[cell + "-both"]
    assert all(same_batches(a, b) + same_start(a, b))
    assert apart(a, b) < ROUNDING


def test_a_model_without_an_input_shape_is_built_before_its_first_step(new, middle):
    a, b = runs_of(new)["unbuilt-sgd"], runs_of(middle / "new")["unbuilt-sgd-both"]
    assert all(same_batches(a, b) + same_start(a, b))
    assert apart(a, b) < ROUNDING


def test_one_thing_can_be_controlled_without_the_other(old, new):
    a, found = runs_of(old)["mlp-sgd"], runs_of(new)
    assert all(same_start(a, found["mlp-sgd-weights"]))
    assert not any(same_batches(a, found["mlp-sgd-weights"]))
    assert all(same_batches(a, found["mlp-sgd-batches"]))
    assert not all(same_start(a, found["mlp-sgd-batches"]))


def test_the_one_bias_of_the_old_gru_becomes_the_first_of_the_two_of_the_new(old, new):
    a, b = runs_of(old)["gru_default-sgd"], runs_of(new)["gru_default-sgd-both"]
    bias = b.read(b.find("weight", "rnn/bias"), 0)
    assert bias.shape == (2, 15)
    np.testing.assert_array_equal(bias[0], a.read(a.find("weight", "rnn/bias"), 0))
    assert not bias[1].any()


# --- lockstep


def test_in_lockstep_every_step_begins_with_the_state_of_the_other_run(old, new):
    a, b = runs_of(old)["mlp-RMSprop"], runs_of(new)["mlp-RMSprop-lockstep"]
    checked = 0
    for tensor in b.tensors:
        if tensor.role in ("weight", "slot"):
            for step in range(b.steps):
                theirs = a.read(a.find(tensor.role, tensor.name), step)
                np.testing.assert_array_equal(b.read(tensor, step), theirs)
                checked += 1
    assert checked == 9 * 6  # four weights, their slots, the counter
    assert all(same_batches(a, b))


@pytest.mark.parametrize("epsilon_inside", [True, False])
def test_in_lockstep_each_update_is_this_stacks_rule_on_the_other_runs_state(
    old, new, old_again, epsilon_inside
):
    # Keras 3 has the epsilon of RMSprop under the root, Keras 2.3 beside it.
    a, b = runs_of(old)["mlp-RMSprop"], runs_of(new)["mlp-RMSprop-lockstep"]
    if not epsilon_inside:
        a, b = runs_of(new)["mlp-RMSprop"], runs_of(old_again)["mlp-RMSprop-lockstep"]
    name = "hidden/kernel"
    for step in range(a.steps):
        weight, root = (
            a.read(a.find(role, tensor), step).astype(float)
            for role, tensor in (("weight", name), ("slot", name + "/rms"))
        )
        gradient = b.read(b.find("gradient", name), step).astype(float)
        root = 0.9 * root + 0.1 * gradient**2
        below = np.sqrt(root + 1e-4) if epsilon_inside else np.sqrt(root) + 1e-4
        after = b.read(b.find("weight", name), step, "after")
        np.testing.assert_allclose(after, weight - 0.01 * gradient / below, rtol=0, atol=3e-7)


# --- what is said


def about(run):
    return run.about["capture"]["replay"]


def test_the_trace_says_what_was_controlled_and_by_which_run(old, new):
    b = runs_of(new)["mlp-sgd-both"]
    assert about(b)["source"] == str(old / "mlp-sgd.zarr")
    assert about(b)["run"] == str(old / "mlp-sgd.zarr/run-0")
    assert (about(b)["initial_weights"], about(b)["batches"], about(b)["state"]) == (
        True,
        True,
        "start",
    )
    assert about(runs_of(new)["mlp-RMSprop-lockstep"])["state"] == "every-step"
    assert "replay" not in runs_of(new)["mlp-sgd"].about["capture"]


def test_what_is_not_carried_over_is_listed(new):
    b = runs_of(new)["mlp-sgd-both"]
    # Keras 2.3 keeps a momentum at 0 too, Keras 3 does not.
    assert "hidden/kernel/momentum" in about(b)["left_in_a"]
    assert about(b)["left_in_b"] == {}
    assert any("momentum of 4 weights" in event["message"] for event in b.about["events"])


def test_layers_that_draw_random_numbers_are_named_as_uncontrolled(new):
    found = runs_of(new)
    assert about(found["dropout-sgd-both"])["uncontrolled"] == ["drop"]
    kinds = [event["kind"] for event in found["dropout-sgd-both"].about["events"]]
    assert "replay-uncontrolled" in kinds
    assert about(found["lstm-sgd-both"])["uncontrolled"] == []


def test_two_replays_of_one_run_name_it_by_the_same_fingerprint(new):
    found = runs_of(new)
    same = {about(found[f"mlp-sgd-{level}"])["fingerprint"] for level in ("both", "weights")}
    assert len(same) == 1
    assert about(found["lstm-sgd-both"])["fingerprint"] not in same


# --- refusals


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("no")


@pytest.fixture(scope="module")
def attempts(tf23, folder):
    return json.loads(tf23.run(PROGRAMS / "refusals.py", folder).stdout)


@pytest.mark.parametrize(
    ("attempt", "words"),
    [
        ("missing", "there is no trace"),
        ("no trace", "cannot be opened as a trace"),
        ("digests", "keeps no values of input/0"),
        ("other model", "no weight of"),
        ("labels", "label/0 has shape (8,), and this model's pipeline gives (n, 3)"),
        ("block", "a block is recorded and not replayed to"),
        ("damaged", "hidden/kernel at step 0 is damaged"),
    ],
)
def test_a_replay_that_cannot_be_ends_the_training_before_its_first_step(attempts, attempt, words):
    message, trained = attempts[attempt]
    assert words in message
    assert "\n" not in message
    assert trained == 0


def test_a_replay_that_fits_is_not_refused(attempts):
    assert attempts["fits"] == [None, 3]


def test_a_mapping_file_says_which_tensor_is_which_under_other_names(attempts, folder):
    assert attempts["mapped"] == [None, 3]
    a, b = runs_of(folder)["good"], runs_of(folder)["b-mapped"]
    for name in ("/kernel", "/bias", "_out/kernel", "_out/bias"):
        one, other = a.find("weight", "hidden" + name), b.find("weight", "other" + name)
        np.testing.assert_array_equal(a.read(one, 0), b.read(other, 0))


def test_where_the_other_run_ends_first_training_stops_there(attempts):
    assert attempts["longer"] == [None, 3]


def test_a_fit_behind_the_end_of_the_other_run_is_refused(attempts):
    message, trained = attempts["second fit"]
    assert "ends after 3 steps" in message
    assert trained == 3


# --- the command line


def test_the_command_replays_for_a_script_that_knows_nothing_of_it(tf23, tmp_path):
    script = ("plain_training.py", "tf2.3", tmp_path / "w.npz", "--epochs", "1")
    record = ("-m", "tracediff_hooks", "record", "-o")
    tf23.run(*record, tmp_path / "a.zarr", *script, cwd=PROGRAMS)
    control = ("--initial-weights-from", tmp_path / "a.zarr", "--batches-from", tmp_path / "a.zarr")
    (tmp_path / "w.npz").unlink()
    done = tf23.run(*record, tmp_path / "b.zarr", *control, *script, cwd=PROGRAMS)
    assert "replaying" in done.stderr
    a, b = runs_of(tmp_path).values()
    assert all(same_batches(a, b) + same_start(a, b))
    # and says in one line why not, where there is nothing to replay
    done = tf23.run(
        *record,
        tmp_path / "c.zarr",
        "--batches-from",
        tmp_path / "no.zarr",
        *script,
        cwd=PROGRAMS,
        status=2,
    )
    assert done.stderr.splitlines()[-2:] == [
        f"error: there is no trace {tmp_path / 'no.zarr'} to replay",
        "hint: record the first run with tracediff-record -o TRACE",
    ]
    assert not (tmp_path / "c.zarr").exists()


# --- what the comparison makes of lockstep


@pytest.mark.parametrize("here", ["new", "old"])
def test_with_a_changed_rule_the_update_is_the_only_origin_at_every_step(old, new, old_again, here):
    a, b = (old, new) if here == "new" else (new, old_again)
    found = compare(a / "mlp-RMSprop.zarr", b / "mlp-RMSprop-lockstep.zarr")
    stages = {one.stage: (one.steps, one.origin_steps) for one in found.lockstep.stages}
    assert stages.pop("update") == (6, 6)
    assert set(stages.values()) == {(0, 0)}
    assert {one.role for one in found.lockstep.errors} == {"weight"}
    assert found.causes[0].code == "optimizer.rule"
