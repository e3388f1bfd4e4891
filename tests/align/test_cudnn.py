"""The layouts of cuDNN, as Keras 2.3 itself converts weights to them, are recognised and undone."""

from pathlib import Path

import numpy as np
import pytest
from support.build import RunPlan, Step, make_trace
from support.stacks import stack_or_skip

from tracediff.align import pair_tensors
from tracediff.align.layouts import adapt
from tracediff.align.notation import parse
from tracediff.trace import open_trace

PROGRAM = Path(__file__).parent / "programs" / "cudnn_weights.py"
WEIGHTS = ("kernel", "recurrent_kernel", "bias")


@pytest.fixture(scope="module")
def converted(tmp_path_factory):
    path = tmp_path_factory.mktemp("cudnn") / "weights.npz"
    stack_or_skip("keras2.3").run(PROGRAM, path)
    with np.load(path) as found:
        return {name: found[name] for name in found.files}


@pytest.mark.parametrize(
    ("one", "other"),
    [("LSTM", "CuDNNLSTM"), ("CuDNNLSTM", "LSTM"), ("GRU", "CuDNNGRU"), ("CuDNNGRU", "GRU")],
)
def test_weights_of_cudnn_are_compared_with_plain_ones(converted, tmp_path, one, other):
    runs = []
    for kind in (one, other):
        state = {("weight", f"rnn/{name}"): converted[f"{kind}.{name}"] for name in WEIGHTS}
        layers = [{"name": "rnn", "class": kind, "config": {}, "inputs": []}]
        about = {"model": {"class": "Sequential", "layers": layers}}
        specs = {key: {"layer": "rnn", "order": place} for place, key in enumerate(state)}
        plan = RunPlan([Step()], state, about, specs)
        runs.append(open_trace(make_trace(tmp_path / f"{kind}.zarr", plan)).runs[0])
    a, b = runs
    pairing = pair_tensors(a, b)
    assert {pair.name for pair in pairing.pairs} == {f"rnn/{name}" for name in WEIGHTS}
    assert pairing.unpaired == ()
    for pair in pairing.pairs:
        ours = adapt(parse(pair.layout_a), a.read(a.tensor("weight", pair.a), 0))
        theirs = adapt(parse(pair.layout), b.read(b.tensor("weight", pair.b), 0))
        np.testing.assert_allclose(ours, theirs, rtol=1e-6, err_msg=pair.name)
        assert pair.layout or pair.layout_a
