"""What was done to samples is recovered from two batches, and other samples are not explained."""

import numpy as np
import pytest

from tracediff.diagnose.transforms import grid, recover


def images(seed=0, rows=16):
    generator = np.random.default_rng(seed)
    return generator.integers(0, 256, (rows, 8, 8, 3)) / 255.0


BRIGHT = np.random.default_rng(5).uniform(0.7, 1.3, (16, 1, 1, 1))


@pytest.mark.parametrize(
    ("transform", "kind", "word"),
    [
        (lambda x: 2.0 * x + 0.5, "affine", "b = 2 * a + 0.5"),
        (lambda x: x[:, :, ::-1], "affine", "reversed along axis 2"),
        (lambda x: x[..., ::-1], "affine", "RGB against BGR"),
        (lambda x: x[..., [1, 2, 0]], "affine", "channels in the order [1, 2, 0]"),
        (lambda x: np.swapaxes(x, 1, 2), "affine", "axes 1 and 2 exchanged"),
        (lambda x: np.rot90(x, 1, (1, 2)), "affine", "turned by a quarter"),
        (lambda x: np.roll(x, -3, 1), "affine", "rolled by -3 along axis 1"),
        (lambda x: x * [1, 2, 3] - [0.1, 0.2, 0.3], "channel", "channel by channel"),
        (lambda x: x[..., ::-1] * [1, 2, 3], "channel", "RGB against BGR"),
        (lambda x: x * BRIGHT, "sample", "sample by sample"),
        (lambda x: (x - x.mean(0)) / x.std(0), "position", "position by position"),
        (np.sqrt, "function", "increasing"),
        (lambda x: np.minimum(x, 0.5), "function", "increasing"),
    ],
)
def test_a_transformation_is_recovered(transform, kind, word):
    # given a batch, and the same one transformed and rounded to float32 as training rounds it
    a = images()
    b = transform(a).astype(np.float32).astype(np.float64)
    # when
    found = recover(a, b)
    # then
    assert found is not None
    assert found.kind == kind
    assert word in found.words


def test_scale_and_offset_are_the_ones_used():
    # given
    a = images()
    # when
    found = recover(a, 0.25 * a - 3.0)
    # then
    assert found.scale == pytest.approx(0.25)
    assert found.offset == pytest.approx(-3.0)


def test_normalising_before_or_after_a_random_change_is_told_by_offsets_alone():
    # given samples brightened before they are normalised, and after
    a = (images() + BRIGHT - 0.5) / 0.25
    b = (images() - 0.5) / 0.25 + BRIGHT
    # when
    found = recover(a, b)
    # then every sample has an offset of its own and no scale
    assert found.kind == "sample"
    assert found.scale == pytest.approx([1.0, 1.0])
    assert "normalised before" in found.words


def test_another_padding_value_is_recovered():
    # given images moved down by one row, zeros coming in before they are normalised, or after
    x = images()
    moved = np.zeros_like(x)
    moved[:, 1:] = x[:, :-1]
    a = (moved - 0.5) / 0.25
    b = a.copy()
    b[:, 0] = 0.0
    # when
    found = recover(a, b)
    # then
    assert found.kind == "border"
    assert "-2 in A and 0 in B" in found.words


def test_words_numbered_otherwise_are_recovered():
    # given
    words = np.random.default_rng(1).integers(0, 10, (16, 12)).astype(float)
    table = np.random.default_rng(2).permutation(10).astype(float)
    # when
    found = recover(words, table[words.astype(int)])
    # then
    assert found.kind == "function"


@pytest.mark.parametrize("shape", [(16, 12), (16, 8, 8, 3), (16, 6, 5), (16, 1)])
def test_other_samples_are_no_transformation(shape):
    # given two batches that have nothing to do with each other
    a, b = (np.random.default_rng(seed).normal(size=shape) for seed in (0, 1))
    # then
    assert recover(a, b) is None


def test_a_constant_is_no_transformation():
    # given
    a = images()
    # then
    assert recover(a, np.full_like(a, 0.5)) is None


def test_samples_rounded_to_a_grid_are_told_from_others():
    # given
    a = np.random.default_rng(0).normal(size=(64, 12))
    # then
    assert grid(a, np.round(a * 16) / 16) == pytest.approx(1 / 16)
    assert grid(a, np.random.default_rng(1).normal(size=(64, 12))) is None
    assert grid(a, 2.0 * a) is None
