"""Mapping files: written, read back, and refused with the reason."""

import json

import numpy as np
import pytest
from support.build import RunPlan, Step, make_trace
from support.runs import SGD
from support.train import train

from tracediff.align import as_mapping, pair_tensors, parse_mapping
from tracediff.cli import main
from tracediff.compare import AlignOptions, compare
from tracediff.errors import TracediffError
from tracediff.trace import open_trace

SHAPES_A = {"rnn/kernel": (3, 9), "rnn/bias": (9,), "q/kernel": (4, 2), "k/kernel": (4, 3)}
SHAPES_B = {"gru/w": (3, 9), "gru/bias": (2, 9), "qk/kernel": (4, 5)}


def run_of(path, shapes, slots=()):
    generator = np.random.default_rng(len(shapes))
    state = {
        ("weight", name): generator.normal(size=shape).astype(np.float32)
        for name, shape in shapes.items()
    }
    for name in slots:
        state["slot", f"{name}/m"] = generator.normal(size=shapes[name]).astype(np.float32)
    return open_trace(make_trace(path, RunPlan([Step()], state))).runs[0]


@pytest.fixture
def runs(tmp_path):
    return (
        run_of(tmp_path / "a.zarr", SHAPES_A, SHAPES_A),
        run_of(tmp_path / "b.zarr", SHAPES_B, SHAPES_B),
    )


GIVEN = [
    {"a": "rnn/kernel", "b": "gru/w"},
    {"a": "rnn/bias", "b": "gru/bias", "layout": [{"op": "sum", "axis": 0}]},
    {
        "a": "q/kernel",
        "b": "qk/kernel",
        "layout": [{"op": "take", "axis": 1, "start": 0, "stop": 2}],
    },
    {
        "a": "k/kernel",
        "b": "qk/kernel",
        "layout": [{"op": "take", "axis": 1, "start": 2, "stop": 5}],
    },
]


def mapping(*lines, **fields):
    return {"tracediff_map": 1, "tensors": list(lines), **fields}


def test_what_a_mapping_says_is_paired_and_slots_follow(runs):
    pairing = pair_tensors(*runs, parse_mapping(mapping(*GIVEN), *runs))
    found = {(pair.role, pair.name): pair for pair in pairing.pairs}
    assert found["weight", "rnn/kernel"].b == "gru/w"
    assert found["slot", "rnn/kernel/m"].b == "gru/w/m"
    assert found["weight", "q/kernel"].b == "qk/kernel[:, 0:2]"
    assert found["slot", "k/kernel/m"].b == "qk/kernel/m[:, 2:5]"
    assert found["weight", "rnn/bias"].layout == ({"op": "sum", "axis": 0},)
    assert found["slot", "rnn/bias/m"].layout[0]["op"] == "take"
    assert all(pair.confidence == 1.0 for pair in found.values() if pair.role == "weight")
    assert pairing.unpaired == ()


def test_what_is_written_is_read_back_as_the_same(runs):
    pairing = pair_tensors(*runs, parse_mapping(mapping(*GIVEN), *runs))
    written = json.loads(json.dumps(as_mapping(pairing, *runs)))
    again = pair_tensors(*runs, parse_mapping(written, *runs))
    assert [(p.key, p.a, p.b, p.layout) for p in again.pairs] == [
        (p.key, p.a, p.b, p.layout) for p in pairing.pairs
    ]
    bias = next(line for line in written["tensors"] if line["a"] == "rnn/bias")
    assert bias["back"] == [{"op": "insert", "axis": 0, "count": 2, "at": 0}]
    assert (bias["shape_a"], bias["shape_b"]) == ([9], [2, 9])


def test_a_layer_that_is_given_takes_its_weights_along(runs):
    given = parse_mapping(mapping(layers=[{"a": "rnn", "b": "gru"}]), *runs)
    pairing = pair_tensors(*runs, given)
    assert pairing.find("weight", "rnn/kernel").b == "gru/w"


def test_what_is_said_to_have_no_partner_is_no_finding(runs):
    lines = [{"a": name, "b": None} for name in SHAPES_A]
    lines += [{"a": None, "b": name} for name in SHAPES_B]
    pairing = pair_tensors(*runs, parse_mapping(mapping(*lines), *runs))
    assert not [pair for pair in pairing.pairs if pair.role == "weight"]
    weights = [one for one in pairing.unpaired if one.role == "weight"]
    assert len(weights) == len(SHAPES_A) + len(SHAPES_B)
    assert not any(one.matters for one in weights)


@pytest.mark.parametrize(
    ("found", "words"),
    [
        ([], "is no mapping"),
        ({"tensors": []}, "is no mapping"),
        ({"tracediff_map": 2}, "version 2"),
        (mapping({"a": "rnn/kernle", "b": "gru/w"}), "did you mean rnn/kernel"),
        (mapping({"a": "rnn/kernel", "b": "nothing"}), "B has no weight nothing"),
        (mapping({"a": "rnn/kernel"}), "no name for b"),
        (mapping({"a": None, "b": None}), "names nothing"),
        (mapping(GIVEN[0], GIVEN[0]), "weight rnn/kernel of A is used twice"),
        (mapping(GIVEN[0], {"a": "rnn/bias", "b": "gru/w"}), "nothing joins"),
        (mapping({"a": "q/kernel", "b": "qk/kernel"}), "(4, 2) and (4, 5), which nothing joins"),
        (
            mapping({"a": "rnn/kernel", "b": "gru/w", "layout": [{"op": "sum", "axis": 0}]}),
            "(3, 9) and (9,)",
        ),
        (
            mapping({"a": "rnn/kernel", "b": "gru/w", "layout": [{"op": "sum", "axis": 4}]}),
            "sum along axis 4 does not fit shape (3, 9)",
        ),
        (mapping({"a": "rnn/kernel", "b": "gru/w", "layout": [{"op": "?"}]}), "is no adapter"),
        (mapping(layers=[{"a": "rn", "b": "gru"}]), "A has no layer rn"),
        (
            mapping(layers=[{"a": "rnn", "b": "gru"}, {"a": "q", "b": "gru"}]),
            "layer gru of B is used twice",
        ),
        (mapping(3), "no list of objects"),
    ],
)
def test_what_makes_no_sense_is_refused(runs, found, words):
    with pytest.raises(TracediffError) as caught:
        parse_mapping(found, *runs, where="map.json")
    assert words in f"{caught.value.message} {caught.value.hint}"
    assert caught.value.message.startswith("map.json")
    assert caught.value.hint or "names nothing" in words


@pytest.fixture
def traces(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    make_trace("a.zarr", train(SGD))
    make_trace("b.zarr", train(SGD))


def test_a_mapping_on_the_command_line(traces, tmp_path, capsys):
    assert main(["map", "a.zarr", "b.zarr", "-o", "map.json"]) == 0
    out, err = capsys.readouterr()
    assert out == ""
    assert err == (
        "note: 6 pairs, 0 of another layout, 0 with a confidence below 90%; "
        "0 tensors without a partner\n"
    )
    assert main(["compare", "a.zarr", "b.zarr", "--map", "map.json"]) == 0
    capsys.readouterr()
    # AND without a file it goes to stdout
    assert main(["map", "a.zarr", "b.zarr", "--map", "map.json"]) == 0
    given = json.loads(capsys.readouterr().out)
    assert {line["reason"] for line in given["tensors"] if line["role"] == "weight"} == {
        "given by the mapping"
    }


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--map", "none.json"], "none.json does not exist"),
        (["--map", "a.zarr"], "a.zarr cannot be read"),
        (["--align", "steps=bathces"], "did you mean batches?"),
        (["--align", "rows=1"], "nothing to align called rows"),
    ],
)
def test_a_wrong_option_is_trouble_in_two_lines(traces, capsys, arguments, words):
    assert main(["compare", "a.zarr", "b.zarr", *arguments]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert words in err
    assert "Traceback" not in err


def test_what_is_left_out_takes_its_gradients_and_slots_along(traces, tmp_path):
    path = tmp_path / "map.json"
    lines = [{"a": "hidden/bias", "b": None}, {"a": None, "b": "hidden/bias"}]
    path.write_text(json.dumps(mapping(*lines)))
    comparison = compare("a.zarr", "b.zarr", align=AlignOptions(mapping=path))
    assert comparison.verdict == "identical"
    left = {(one.side, one.role, one.tensor): one.reason for one in comparison.unpaired}
    assert set(left.values()) == {"left out by the mapping"}
    for side in ("a", "b"):
        assert (side, "weight", "hidden/bias") in left
        assert (side, "gradient", "hidden/bias") in left
        assert (side, "slot", "hidden/bias/momentum") in left
