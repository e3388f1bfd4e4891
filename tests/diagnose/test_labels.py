"""Labels as class numbers and one-hot, and of other dtypes."""

import numpy as np
from support.build import RunPlan, Step, make_trace
from support.runs import cause

from tracediff.compare import compare

INPUT, LABEL = ("input", "input/0"), ("label", "label/0")
SAMPLES = np.random.default_rng(0).normal(size=(12, 3)).astype(np.float32)
CLASSES = np.random.default_rng(1).integers(0, 4, 12)


def labelled(folder, name, labels):
    return make_trace(folder / name, RunPlan([Step(observed={INPUT: SAMPLES, LABEL: labels})]))


def test_labels_of_another_dtype_and_shape_agree(tmp_path):
    a = labelled(tmp_path, "a.zarr", CLASSES)
    b = labelled(tmp_path, "b.zarr", CLASSES.astype(np.float32)[:, None])
    comparison = compare(a, b)
    assert comparison.verdict == "identical"
    assert any("int64 in A, float32 in B" in note for note in comparison.notes)


def test_one_hot_against_class_numbers(tmp_path):
    a = labelled(tmp_path, "a.zarr", CLASSES)
    b = labelled(tmp_path, "b.zarr", np.eye(4, dtype=np.float32)[CLASSES])
    found = cause(compare(a, b), "data.labels")
    assert "class numbers in A and one-hot in B, for the same classes" in found.summary


def test_classes_counted_from_one(tmp_path):
    a, b = labelled(tmp_path, "a.zarr", CLASSES), labelled(tmp_path, "b.zarr", CLASSES + 1)
    assert "b = a + 1" in cause(compare(a, b), "data.labels").summary


def test_classes_coded_otherwise(tmp_path):
    a = labelled(tmp_path, "a.zarr", CLASSES)
    b = labelled(tmp_path, "b.zarr", np.array([2, 0, 3, 1])[CLASSES])
    assert "coded otherwise" in cause(compare(a, b), "data.labels").summary


def test_a_single_wrong_class_is_significant_whatever_the_size_of_the_numbers(tmp_path):
    tokens = CLASSES + 10_000_000
    wrong = tokens.copy()
    wrong[7] += 1
    comparison = compare(labelled(tmp_path, "a.zarr", tokens), labelled(tmp_path, "b.zarr", wrong))
    assert "row 7" in cause(comparison, "data.labels").summary
