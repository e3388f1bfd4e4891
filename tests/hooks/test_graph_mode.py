"""Scripts that switch the behaviour of TensorFlow 2 off train in a graph, and are recorded there.

Held against the data, a witness and numpy, as every other way of training.
"""

from __future__ import annotations

import pytest
from support.stacks import flavours, stack_or_skip
from support.ways import (
    PROGRAMS,
    TF_KERAS,
    Way,
    Ways,
    assert_batches,
    assert_true,
    batches_of,
    problem,
)

import tracediff

LABEL = {"tf2.3": "tf.keras on ", "tf2.15": "tf.keras 2.15", "tf-keras": "tf_keras 2."}
RECORD = ("-m", "tracediff_hooks", "record")


@pytest.fixture(scope="module", params=flavours(*TF_KERAS))
def graph_mode(request, tmp_path_factory):
    return Ways("graph_mode.py", request.param, tmp_path_factory.mktemp(request.param))


@pytest.mark.way("graph mode by `disable_v2_behavior()`", "recorded", *TF_KERAS)
@pytest.mark.parametrize("name", ["fit", "block"])
def test_steps_in_the_graph_mode_of_tensorflow_2(graph_mode, name):
    # Given disable_v2_behavior(), and a fit, or train_on_batch in a block
    way: Way = graph_mode[name]
    # Then six steps hold what was fed, what the witness saw, and what the arithmetic makes of it,
    assert_batches(way.run, batches_of(*problem()))
    assert_true(way, witnessed=name == "fit")
    # and the training was not disturbed
    assert way.facts["same_weights"]
    assert way.facts["left_behind"] == []
    assert way.facts.get("said", []) == []


@pytest.mark.parametrize("name", flavours(*TF_KERAS))
def test_the_command_records_a_script_in_graph_mode(tmp_path, name):
    # Given a script that switches to graph mode, when the command runs it
    script = (PROGRAMS / "graph_mode.py", name, tmp_path, "plain")
    stack_or_skip(name).run(*RECORD, "-o", tmp_path / "a.zarr", *script)
    # Then its fit is a run of six steps with gradients
    (run,) = tracediff.open_trace(tmp_path / "a.zarr").runs
    assert (run.steps, run.status) == (6, "complete")
    assert_batches(run, batches_of(*problem()))
    assert run.find("gradient", "hidden/kernel") is not None
    assert run.about["events"] == []
    assert run.about["stack"]["label"].startswith(LABEL[name])
