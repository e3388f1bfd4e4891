"""The samples of the bench, from numpy's legacy generator: the same on every numpy."""

import numpy as np
from models import CLASSES, INPUTS, REGRESSIONS, VOCABULARY

ROWS = 88  # Of 16: five full batches and a partial one


def samples(kind, edits, batch):
    """Returns inputs (a list), labels, sample weights or None.

    Args:
        kind: A key of `models.INPUTS`.
        edits: Lists of a kind and its arguments, applied in turn.
        batch: Rows in a batch, by which edits count steps.
    """
    generator = np.random.RandomState(7)
    inputs = []
    for shape in INPUTS[kind]:
        if kind in ("embedding", "both ways"):
            x = generator.randint(0, VOCABULARY, (ROWS, *shape))
        elif kind == "cnn":
            x = generator.randint(0, 256, (ROWS, *shape)) / 255.0
        else:
            x = generator.randn(ROWS, *shape)
        inputs.append(x.astype("float32"))
    y = generator.randint(0, CLASSES, ROWS).astype("int64")
    if kind in REGRESSIONS:
        y = generator.randn(ROWS).astype("float32")
    sampled = None
    for edit in edits:
        inputs, y, sampled = _EDITS[edit[0]](inputs, y, sampled, batch, *edit[1:])
    return inputs, y, sampled


def _element(inputs, y, sampled, batch, step, row, amount):
    inputs[0][step * batch + row].flat[3] += np.float32(amount)
    return inputs, y, sampled


def _spoil(inputs, y, sampled, batch, step, row, value):
    inputs[0][step * batch + row] = np.float32(value)
    return inputs, y, sampled


def _other_rows(inputs, y, sampled, batch, step, seed):
    """Puts samples nobody has seen into every batch from a step on."""
    rest = inputs[0][step * batch :]
    drawn = np.random.RandomState(seed).randn(*rest.shape)
    inputs[0][step * batch :] = drawn.astype("float32")
    return inputs, y, sampled


def _drop_row(inputs, y, sampled, batch, row):
    keep = np.arange(len(y)) != row
    return [x[keep] for x in inputs], y[keep], sampled


def _take(inputs, y, sampled, batch, rows):
    return [x[:rows] for x in inputs], y[:rows], sampled


def _affine(inputs, y, sampled, batch, which, scale, offset):
    x = inputs[which].astype("float64") * np.array(scale) + np.array(offset)
    inputs[which] = x.astype("float32")
    return inputs, y, sampled


def _standardise(inputs, y, sampled, batch, which):
    x = inputs[which]
    inputs[which] = ((x - x.mean(axis=0)) / (x.std(axis=0) + 1e-7)).astype("float32")
    return inputs, y, sampled


def _flip(inputs, y, sampled, batch, axis):
    inputs[0] = np.ascontiguousarray(np.flip(inputs[0], axis))
    return inputs, y, sampled


def _channels(inputs, y, sampled, batch, order):
    inputs[0] = np.ascontiguousarray(inputs[0][..., order])
    return inputs, y, sampled


def _transpose(inputs, y, sampled, batch):
    inputs[0] = np.ascontiguousarray(np.swapaxes(inputs[0], 1, 2))
    return inputs, y, sampled


def _roll(inputs, y, sampled, batch, axis, by):
    inputs[0] = np.roll(inputs[0], by, axis)
    return inputs, y, sampled


def _brightness(inputs, y, sampled, batch, first):
    """Standardises and brightens each sample by its own factor, in this order or the other."""
    factors = np.random.RandomState(3).uniform(0.8, 1.2, (len(y), 1, 1, 1))
    x = inputs[0].astype("float64")
    x = (x * factors - 0.5) / 0.25 if first == "brighten" else (x - 0.5) / 0.25 * factors
    inputs[0] = x.astype("float32")
    return inputs, y, sampled


def _padded(inputs, y, sampled, batch, first):
    """Standardises and moves each sample by one pixel, zeros coming in, in this order or not."""
    x = inputs[0].astype("float64")
    if first == "standardise":
        x = (x - 0.5) / 0.25
    moved = np.zeros_like(x)
    moved[:, 1:] = x[:, :-1]
    if first != "standardise":
        moved = (moved - 0.5) / 0.25
    inputs[0] = moved.astype("float32")
    return inputs, y, sampled


def _gamma(inputs, y, sampled, batch, power):
    inputs[0] = np.power(inputs[0].astype("float64"), power).astype("float32")
    return inputs, y, sampled


def _cast(inputs, y, sampled, batch, dtype):
    inputs[0] = inputs[0].astype(dtype).astype("float32")
    return inputs, y, sampled


def _quantise(inputs, y, sampled, batch, levels):
    inputs[0] = (np.round(inputs[0] * levels) / levels).astype("float32")
    return inputs, y, sampled


def _renumber(inputs, y, sampled, batch, seed):
    table = np.random.RandomState(seed).permutation(VOCABULARY)
    inputs[0] = table[inputs[0].astype(int)].astype("float32")
    return inputs, y, sampled


def _reverse(inputs, y, sampled, batch, step):
    here = slice(step * batch, (step + 1) * batch)
    for x in inputs:
        x[here] = x[here][::-1].copy()
    y[here] = y[here][::-1].copy()
    return inputs, y, sampled


def _permute(inputs, y, sampled, batch, seed):
    order = np.random.RandomState(seed).permutation(len(y))
    return [x[order] for x in inputs], y[order], sampled


def _exchange(inputs, y, sampled, batch, one, other):
    for values in [*inputs, y]:
        values[[one, other]] = values[[other, one]]
    return inputs, y, sampled


def _label(inputs, y, sampled, batch, step, row):
    y[step * batch + row] = (y[step * batch + row] + 1) % CLASSES
    return inputs, y, sampled


def _classes(inputs, y, sampled, batch):
    return inputs, (y + 1) % CLASSES, sampled


def _label_roll(inputs, y, sampled, batch, by):
    return inputs, np.roll(y, by), sampled


def _one_hot(inputs, y, sampled, batch, smoothing):
    hot = np.eye(CLASSES)[y] * (1 - smoothing) + smoothing / CLASSES
    return inputs, hot.astype("float32"), sampled


def _label_affine(inputs, y, sampled, batch, scale, offset):
    return inputs, (y * scale + offset).astype(y.dtype), sampled


def _weigh(inputs, y, sampled, batch, rows, weight):
    sampled = np.ones(len(y), "float32")
    sampled[np.arange(len(y)) % batch == rows] = weight
    return inputs, y, sampled


_EDITS = {
    "element": _element,
    "spoil": _spoil,
    "other rows": _other_rows,
    "drop row": _drop_row,
    "take": _take,
    "affine": _affine,
    "standardise": _standardise,
    "flip": _flip,
    "channels": _channels,
    "transpose": _transpose,
    "roll": _roll,
    "brightness": _brightness,
    "padded": _padded,
    "gamma": _gamma,
    "cast": _cast,
    "quantise": _quantise,
    "renumber": _renumber,
    "reverse": _reverse,
    "permute": _permute,
    "exchange": _exchange,
    "label": _label,
    "classes": _classes,
    "label roll": _label_roll,
    "one-hot": _one_hot,
    "label affine": _label_affine,
    "weigh": _weigh,
}
