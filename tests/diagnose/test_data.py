"""What the data stage is blamed for, and what not."""

import numpy as np
import pytest
from support.runs import SGD, cause, changed, codes, compared, place

BATCHES = SGD.epoch


def shuffled(step, x, y):
    order = np.random.default_rng(step).permutation(len(x))
    return x[order], y[order]


def whole(plan):
    from support.train import batches

    found = batches(plan)
    return np.concatenate([x for x, _ in found]), np.concatenate([y for _, y in found])


def reshuffled_epochs(step, x, y):
    """Deal all samples of the epoch out anew, from the second epoch on."""
    if step < BATCHES:
        return x, y
    samples, labels = whole(SGD)
    order = np.random.default_rng(step // BATCHES).permutation(len(samples))
    start = step % BATCHES * SGD.batch
    rows = order[start : start + SGD.batch]
    return samples[rows], labels[rows]


def test_rows_in_another_order_within_the_batch(tmp_path):
    found = cause(compared(tmp_path, SGD, changed(SGD, feed=shuffled)), "data.order")
    assert found.step == 0
    assert found.confidence > 0.9
    assert any("labels moved with their samples" in line for line in found.evidence)


def test_labels_that_move_with_their_samples_are_no_second_cause(tmp_path):
    assert codes(compared(tmp_path, SGD, changed(SGD, feed=shuffled))) == ["data.order"]


def test_labels_that_stay_while_samples_move_are_a_second_cause(tmp_path):
    def samples_only(step, x, y):
        return shuffled(step, x, y)[0], np.roll(y, 1, axis=0)

    found = codes(compared(tmp_path, SGD, changed(SGD, feed=samples_only)))
    assert sorted(found) == ["data.labels", "data.order"]


def test_samples_dealt_to_other_batches_in_the_second_epoch(tmp_path):
    comparison = compared(tmp_path, SGD, changed(SGD, feed=reshuffled_epochs))
    found = cause(comparison, "data.order")
    assert found.step == BATCHES
    assert comparison.first_divergence.epoch == 1
    assert any("100% of B's samples are A's" in line for line in found.evidence)


def test_other_batch_sizes(tmp_path):
    half = changed(SGD, batch=SGD.batch // 2, epoch=SGD.epoch * 2)
    comparison = compared(tmp_path, SGD, half)
    found = cause(comparison, "data.batching")
    assert (found.a, found.b) == (16, 8)
    assert any("same order" in line for line in found.evidence)
    assert codes(comparison)[0] == "data.batching"


def test_a_dropped_partial_batch(tmp_path):
    def partial(step, x, y):
        return (x[:5], y[:5]) if step % BATCHES == BATCHES - 1 else (x, y)

    comparison = compared(tmp_path, changed(SGD, feed=partial), SGD)
    found = cause(comparison, "data.batching")
    assert (found.step, found.a, found.b) == (3, 5, 16)
    assert any("partial batch" in line for line in found.evidence)


@pytest.mark.parametrize(
    ("change", "scale", "offset"),
    [
        (lambda x: x / 255, 1 / 255, 0.0),
        (lambda x: x * 2 - 1, 2.0, -1.0),
        (lambda x: x + 0.5, 1.0, 0.5),
    ],
)
def test_a_scale_and_an_offset_are_recovered(tmp_path, change, scale, offset):
    def feed(step, x, y):
        return change(x).astype(np.float32), y

    comparison = compared(tmp_path, SGD, changed(SGD, feed=feed))
    found = cause(comparison, "data.transform")
    assert found.b["scale"] == pytest.approx(scale, rel=1e-4)
    assert found.b["offset"] == pytest.approx(offset, abs=1e-5)
    assert any("by the same numbers" in line for line in found.evidence)
    assert codes(comparison) == ["data.transform"]


def test_a_transformation_that_depends_on_the_batch_says_so(tmp_path):
    def standardised(step, x, y):
        return ((x - x.mean()) / x.std()).astype(np.float32), y

    found = cause(compared(tmp_path, SGD, changed(SGD, feed=standardised)), "data.transform")
    assert any("depends on the batch" in line for line in found.evidence)


IMAGES = changed(SGD, sizes=(48, 8, 3))


def as_images(change):
    def feed(step, x, y):
        return change(x.reshape(-1, 4, 4, 3)), y

    return feed


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda x: x[:, :, ::-1], "reversed along axis 2"),
        (lambda x: x[:, ::-1], "reversed along axis 1"),
        (lambda x: x[..., ::-1], "channels reversed"),
        (lambda x: np.swapaxes(x, 1, 2), "axes 1 and 2 exchanged"),
        (lambda x: x[..., ::-1] / np.float32(2), "channels reversed"),
        (lambda x: x - np.array([0.1, 0.2, 0.3], np.float32), "channel by channel"),
    ],
)
def test_moved_and_rescaled_images_are_recognised(tmp_path, change, words):
    plan = changed(IMAGES, feed=as_images(lambda x: x))
    comparison = compared(
        tmp_path, plan, changed(IMAGES, feed=as_images(lambda x: np.ascontiguousarray(change(x))))
    )
    assert words in cause(comparison, "data.transform").summary


@pytest.mark.parametrize(
    ("change", "name"),
    [
        (lambda x: x.astype(np.float16).astype(np.float32), "float16"),
        (
            lambda x: (x.view(np.uint32) & np.uint32(0xFFFF0000)).view(np.float32),
            "bfloat16, cut off",
        ),
        (np.trunc, "whole numbers"),
    ],
)
def test_rounded_samples(tmp_path, change, name):
    def feed(step, x, y):
        return change(x), y

    comparison = compared(tmp_path, SGD, changed(SGD, feed=feed))
    found = cause(comparison, "data.dtype")
    assert found.b == name


def test_a_corrupted_element_is_named(tmp_path):
    def feed(step, x, y):
        x = x.copy()
        if step == 3:
            x[5, 2] = 7.0
        return x, y

    comparison = compared(tmp_path, SGD, changed(SGD, feed=feed))
    found = cause(comparison, "data.content")
    assert place(comparison) == (3, "data", "input/0")
    assert found.summary.startswith("Row 5 of input/0 at step 3")
    assert found.b == 7.0
    assert any("other 15 rows" in line for line in found.evidence)


def test_one_element_off_its_grid_is_no_matter_of_precision(tmp_path):
    # Given images of 8 bits, one pixel of which is off
    def bits(step, x, y):
        return np.round(np.abs(x) * 20) / np.float32(255), y

    def spoilt(step, x, y):
        x, y = bits(step, x, y)
        if step == 2:
            x[5, 2] += np.float32(1e-3)
        return x.astype(np.float32), y

    # When the runs are compared
    comparison = compared(tmp_path, changed(SGD, feed=bits), changed(SGD, feed=spoilt))
    # Then it is called by its row, though rounding to the grid would take it back
    assert codes(comparison) == ["data.content"]
    assert place(comparison) == (2, "data", "input/0")


def test_two_samples_that_changed_places_are_a_matter_of_order(tmp_path):
    # Given two samples, each in the other's batch
    samples, labels = whole(SGD)
    order = np.arange(len(samples))
    order[[3, SGD.batch + 4]] = order[[SGD.batch + 4, 3]]

    def exchanged(step, x, y):
        rows = order[step % BATCHES * SGD.batch :][: SGD.batch]
        return samples[rows], labels[rows]

    # When the runs are compared, then nothing is called corrupted: all samples are there
    comparison = compared(tmp_path, SGD, changed(SGD, feed=exchanged))
    assert codes(comparison) == ["data.order"]
    assert place(comparison) == (0, "data", "input/0")


def test_labels_that_part_before_batches_are_cut_otherwise_are_explained(tmp_path):
    # Given other labels from the first step, and a partial batch later
    def partial(step, x, y):
        y = np.roll(y, 1, axis=1)
        return (x[:5], y[:5]) if step % BATCHES == BATCHES - 1 else (x, y)

    # When the runs are compared, then both are named, the first difference first
    comparison = compared(tmp_path, changed(SGD, feed=partial), SGD)
    assert codes(comparison) == ["data.labels", "data.batching"]


def test_other_samples_are_not_called_a_transformation(tmp_path):
    comparison = compared(tmp_path, SGD, changed(SGD, seed=77))
    assert codes(comparison)[0] in {"data.content", "data.labels"}
    assert "data.transform" not in codes(comparison)
    assert "data.order" not in codes(comparison)


def relabelled(change):
    def feed(step, x, y):
        return x, change(y).astype(np.float32)

    return feed


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda y: y * 0.9 + 0.1 / 3, "smoothed in B by 0.1"),
        (lambda y: np.roll(y, 1, axis=0), "while the samples stayed"),
        (lambda y: np.r_[y[:1][:, ::-1], y[1:]], "row"),
    ],
)
def test_labels(tmp_path, change, words):
    comparison = compared(tmp_path, SGD, changed(SGD, feed=relabelled(change)))
    found = cause(comparison, "data.labels")
    assert words in found.summary
    assert codes(comparison) == ["data.labels"]


def test_class_numbers_shifted_by_one(tmp_path):
    numbers = relabelled(lambda y: y.argmax(axis=1)[:, None] * np.ones(3))
    shifted = relabelled(lambda y: y.argmax(axis=1)[:, None] * np.ones(3) + 1)
    comparison = compared(tmp_path, changed(SGD, feed=numbers), changed(SGD, feed=shifted))
    assert codes(comparison)[0] == "data.labels"


def test_sample_weights_by_class(tmp_path):
    from support.train import batches

    classes = [y.argmax(axis=1) for _, y in batches(SGD)]

    def weighted(step):
        return np.array([1.0, 1.0, 3.0], np.float32)[classes[step % BATCHES]]

    comparison = compared(tmp_path, SGD, changed(SGD, sample_weight=weighted))
    found = cause(comparison, "data.sample_weight")
    assert "A weighs every sample 1" in found.summary
    assert any("depends on the class only" in line for line in found.evidence)
    assert codes(comparison) == ["data.sample_weight"]


def test_sample_weights_of_one_are_no_difference(tmp_path):
    ones = changed(SGD, sample_weight=lambda step: np.ones(SGD.batch, np.float32))
    comparison = compared(tmp_path, SGD, ones)
    assert comparison.verdict == "identical"
