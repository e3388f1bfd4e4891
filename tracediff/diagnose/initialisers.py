"""Tell which initialiser a weight was drawn with, by its values and by its configuration.

Fans as Keras computes them from a weight's shape (keras/src/initializers/random_initializers.py
3.15, compute_fans; keras/initializers.py 2.3.1, _compute_fans): kernels of dense, recurrent and
embedding layers are (in, out), those of convolutions end in (in, out) after their window.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from tracediff.diagnose.numbers import short

Array = NDArray[np.float64]
_TRUNCATED = 0.87962566103423978
"""Standard deviation of a unit normal cut off at 2; named normals are widened by it."""
_ENOUGH = 20
_SAMPLE = 1 << 14
"""Elements that a distribution is tested on: all, or so many drawn without replacement."""
_UNIT_SPREADS = {"uniform": 3.0**-0.5, "normal": 1.0, "truncated": _TRUNCATED}
"""Standard deviation of each family at scale 1."""
_MANY, _OTHER_SPREAD = 1024, 1.3
"""Of so many values or more, a spread off by such a factor is beyond any chance: p < 1e-20."""
_GLANCE = 64
"""Rows of a weight that have to be at right angles before all of them are looked at."""
_REJECTED = 1e-3
"""Probability below which values are taken not to come from a distribution."""


@dataclass(frozen=True, slots=True)
class Initialiser:
    """A distribution that weights are drawn from.

    Attributes:
        name: What Keras calls it.
        family: ``uniform``, ``normal`` or ``truncated``.
        scale: Half the width of a uniform, the standard deviation (before cutting) of a normal.
        mean: Its centre.
    """

    name: str
    family: str
    scale: float
    mean: float = 0.0

    def probability(self, values: Array) -> float:
        """Return the probability of values so far from the distribution (Kolmogorov-Smirnov)."""
        slack = 1.0 + 1e-6
        if self.scale <= 0.0:
            return 0.0
        x = (sampled(values) - self.mean) / (self.scale * slack)
        ends = max(float(values.max()) - self.mean, self.mean - float(values.min()))
        width = {"uniform": 1.0, "truncated": 2.0}.get(self.family, math.inf)
        if ends / (self.scale * slack) > width:
            return 0.0
        spread = float(x.std()) / _UNIT_SPREADS[self.family]
        if x.size >= _MANY and not 1.0 / _OTHER_SPREAD < spread < _OTHER_SPREAD:
            return 0.0
        return float(stats.kstest(x, _law(self.family).cdf).pvalue)


@cache
def _law(family: str) -> Any:
    """Return the distribution of a family at scale 1; scipy takes a millisecond to make one."""
    if family == "uniform":
        return stats.uniform(-1.0, 2.0)
    return stats.truncnorm(-2.0, 2.0) if family == "truncated" else stats.norm()


def sampled(values: Array) -> Array:
    """Return the elements that distributions are tested on: of equally many the same ones."""
    if values.size <= _SAMPLE:
        return values
    return values[_places(values.size)]


@lru_cache(maxsize=8)
def _places(size: int) -> NDArray[np.int64]:
    drawn = np.random.default_rng(size).choice(size, _SAMPLE, replace=False, shuffle=False)
    return np.sort(drawn)


def fans(shape: tuple[int, ...]) -> tuple[int, int]:
    """Return how many values go into and out of a weight, as Keras counts them.

    Example:
        >>> fans((784, 10)), fans((3, 3, 16, 32)), fans((5,))
        ((784, 10), (144, 288), (5, 5))
    """
    if len(shape) < 2:
        size = int(shape[0]) if shape else 1
        return size, size
    window = math.prod(shape[:-2])
    return int(window * shape[-2]), int(window * shape[-1])


def named(shape: tuple[int, ...]) -> Iterator[Initialiser]:
    """Yield the initialisers that Keras has a name for, with the fans of a shape."""
    into, out = fans(shape)
    for name, variance in (
        ("glorot", 2.0 / (into + out)),
        ("he", 2.0 / into),
        ("lecun", 1.0 / into),
    ):
        yield Initialiser(f"{name}_uniform", "uniform", math.sqrt(3.0 * variance))
        yield Initialiser(f"{name}_normal", "truncated", math.sqrt(variance) / _TRUNCATED)
    yield Initialiser("random_uniform", "uniform", 0.05)
    yield Initialiser("random_normal", "normal", 0.05)
    yield Initialiser("truncated_normal", "truncated", 0.05)


def fitting(values: Array, shape: tuple[int, ...]) -> list[tuple[str, float]]:
    """Return the named initialisers that values may come from, the likeliest first.

    Args:
        values: All elements of a weight.
        shape: Its shape.

    Returns:
        Names with the probability of values at least as far off; none for fewer than 20 values.
    """
    if values.size < _ENOUGH:
        return []
    if orthogonal(values.reshape(shape)):
        return [("orthogonal", 1.0)]
    found = [(one.name, one.probability(values)) for one in named(shape)]
    return sorted((one for one in found if one[1] >= 0.01), key=lambda one: -one[1])


def orthogonal(weight: Array) -> bool:
    """Say whether rows or columns stand at right angles and are of one length."""
    if weight.ndim < 2:
        return False
    flat = weight.reshape(-1, weight.shape[-1])
    short_side = flat if flat.shape[0] <= flat.shape[1] else flat.T
    if short_side.shape[0] < 2 or short_side.shape[0] > 4096:
        return False
    if short_side.shape[0] > _GLANCE and not _at_right_angles(short_side[:_GLANCE]):
        return False
    return _at_right_angles(short_side)


def _at_right_angles(rows: Array) -> bool:
    product = rows @ rows.T
    gain = float(np.trace(product)) / len(product)
    return gain > 0.0 and bool(np.abs(product - gain * np.eye(len(product))).max() < 1e-4 * gain)


def few_levels(values: Array, most: int) -> bool:
    """Say whether values are but a few different ones."""
    # Sorting a few of them tells nearly always.
    return len(np.unique(values[:1024])) <= most and len(np.unique(values)) <= most


def describe(values: Array, shape: tuple[int, ...]) -> str:
    """Return what values look like: the initialiser they fit, or their moments and ends."""
    if values.size > 1 and bool(np.all(values == values[0])):
        return f"all {short(values[0])}"
    if values.size > 4 and few_levels(values, 3):
        levels = np.unique(values)
        parts = [f"{int(np.count_nonzero(values == level))} are {short(level)}" for level in levels]
        return ", ".join(parts)
    fits = fitting(values, shape)
    spread = (
        f"mean {short(float(values.mean()))}, standard deviation {short(float(values.std()))}, "
        f"from {short(float(values.min()))} to {short(float(values.max()))}"
    )
    if not fits:
        return spread
    names = " or ".join(f"{name} (p = {short(p)})" for name, p in fits[:2])
    return f"{spread}; fits {names}"


def configured(config: Any, shape: tuple[int, ...]) -> Initialiser | str | None:
    """Return the distribution that a layer's configuration asks for.

    Args:
        config: What the layer's configuration says: a name, or an object with class and config.
        shape: Of the weight.

    Returns:
        A distribution; the name of an initialiser that draws nothing or otherwise; None where it
        is not known.

    Example:
        >>> settings = {"scale": 2.0, "mode": "fan_in", "distribution": "uniform"}
        >>> configured({"class_name": "VarianceScaling", "config": settings}, (6, 3)).name
        'he_uniform'
    """
    if isinstance(config, str):
        config = {"class_name": config, "config": {}}
    if not isinstance(config, Mapping) or not config.get("class_name"):
        return None
    name = str(config["class_name"]).rpartition(".")[2].rpartition(">")[2]
    settings = config.get("config") or {}
    plain = name.replace("_", "").lower()
    if plain in ("zeros", "ones", "orthogonal", "identity", "constant"):
        return f"{plain}({settings['value']})" if plain == "constant" else plain
    if plain == "randomuniform":
        low, high = float(settings.get("minval", -0.05)), float(settings.get("maxval", 0.05))
        return _spelled(Initialiser("", "uniform", (high - low) / 2, (high + low) / 2), shape)
    if plain in ("randomnormal", "truncatednormal"):
        family = "normal" if plain == "randomnormal" else "truncated"
        spread, mean = float(settings.get("stddev", 0.05)), float(settings.get("mean", 0.0))
        return _spelled(Initialiser("", family, spread, mean), shape)
    scaling = _SCALINGS.get(plain)
    if plain == "variancescaling":
        scaling = (
            float(settings.get("scale", 1.0)),
            str(settings.get("mode", "fan_in")),
            str(settings.get("distribution", "truncated_normal")),
        )
    return None if scaling is None else _scaled(scaling, shape)


_SCALINGS: Mapping[str, tuple[float, str, str]] = {
    "glorotuniform": (1.0, "fan_avg", "uniform"),
    "glorotnormal": (1.0, "fan_avg", "truncated_normal"),
    "heuniform": (2.0, "fan_in", "uniform"),
    "henormal": (2.0, "fan_in", "truncated_normal"),
    "lecununiform": (1.0, "fan_in", "uniform"),
    "lecunnormal": (1.0, "fan_in", "truncated_normal"),
}


def _scaled(scaling: tuple[float, str, str], shape: tuple[int, ...]) -> Initialiser:
    scale, mode, distribution = scaling
    into, out = fans(shape)
    fan = {"fan_in": into, "fan_out": out}.get(mode, (into + out) / 2)
    variance = scale / max(1.0, fan)
    if distribution == "uniform":
        return _spelled(Initialiser("", "uniform", math.sqrt(3.0 * variance)), shape)
    if distribution == "untruncated_normal":
        return _spelled(Initialiser("", "normal", math.sqrt(variance)), shape)
    # `normal` is what Keras 2.3 calls its truncated one.
    return _spelled(Initialiser("", "truncated", math.sqrt(variance) / _TRUNCATED), shape)


def _spelled(one: Initialiser, shape: tuple[int, ...]) -> Initialiser:
    """Give a distribution its usual name, or one made of its numbers."""
    for other in named(shape):
        if same(one, other):
            return other
    words = {"uniform": "uniform within", "normal": "normal of", "truncated": "truncated normal of"}
    name = f"{words[one.family]} {short(one.scale)}"
    if one.mean:
        name += f" around {short(one.mean)}"
    return Initialiser(name, one.family, one.scale, one.mean)


def same(a: Initialiser | str | None, b: Initialiser | str | None) -> bool:
    """Say whether two configured initialisers draw from one distribution."""
    if isinstance(a, Initialiser) and isinstance(b, Initialiser):
        return (
            a.family == b.family
            and math.isclose(a.scale, b.scale, rel_tol=1e-4)
            and math.isclose(a.mean, b.mean, abs_tol=1e-9)
        )
    return a == b


def rejected(values: Array, shape: tuple[int, ...], what: Initialiser | str | None) -> bool:
    """Say whether values cannot come from what a configuration asks for."""
    if isinstance(what, Initialiser):
        return what.probability(values) < _REJECTED
    if what == "orthogonal":
        return not orthogonal(values.reshape(shape))
    if what in ("zeros", "ones"):
        return bool((values != (what == "ones")).any())
    return False


def _moments(values: Array) -> tuple[float, float, float]:
    """Return the mean, and the second and the fourth moment about it."""
    mean = float(values.mean())
    squares = values - mean
    np.square(squares, out=squares)
    second = float(squares.mean())
    return mean, second, float(np.square(squares, out=squares).mean())


def likeness(a: Array, b: Array) -> tuple[float, str]:
    """Return the probability that two samples come from one distribution, and how it was tested.

    Centre, spread and shape are tested apart: Kolmogorov-Smirnov alone misses another spread.
    The smallest counts, those of centre and spread three times.

    Args:
        a: At least 20 values.
        b: Likewise.
    """
    with warnings.catch_warnings():
        # Of draws that are nearly equal it says that it went over to the asymptotic formula.
        warnings.simplefilter("ignore", RuntimeWarning)
        shape = float(stats.ks_2samp(sampled(a), sampled(b)).pvalue)
    moments = [_moments(x) for x in (a, b)]
    variances = max(moments[0][1], 1e-300), max(moments[1][1], 1e-300)
    error = sum(
        max(0.1, fourth / v**2 - 1.0) / len(x)
        for x, v, (_, _, fourth) in zip((a, b), variances, moments, strict=True)
    )
    spread = 2.0 * float(stats.norm.sf(abs(math.log(variances[1] / variances[0])) / error**0.5))
    deviation = math.sqrt(variances[0] / len(a) + variances[1] / len(b))
    centre = 2.0 * float(stats.norm.sf(abs(moments[1][0] - moments[0][0]) / deviation))
    least = min(shape, 3.0 * spread, 3.0 * centre, 1.0)
    part = "" if len(a) <= _SAMPLE else f" (Kolmogorov-Smirnov: {_SAMPLE} of them)"
    return least, (
        f"Kolmogorov-Smirnov p = {short(shape)}, equal spread p = {short(spread)}, equal mean "
        f"p = {short(centre)} for {len(a)} elements{part}"
    )
