"""The forward pass: layers set otherwise, layers that draw random numbers, the loss, statistics."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from tracediff.diagnose.case import Case
from tracediff.diagnose.configs import CONSTRAINT, Setting, layer_settings, random_layers
from tracediff.diagnose.numbers import listed, plain, short, shown
from tracediff.diagnose.variances import variance_factor
from tracediff.model import Finding
from tracediff.names import same_setting
from tracediff.onset import Place

_SHAPING = frozenset(
    {
        *("units", "filters", "kernel_size", "use_bias", "output_dim", "num_heads", "key_dim"),
        *("value_dim", "depth_multiplier", "center", "scale", "axis", "class", "strides"),
    }
)
"""Settings that give a layer weights of other shapes, or others: a matter of structure."""


def _begins_in_forward(case: Case) -> Place | None:
    """Return the first activation or loss that differs although all that went in agrees."""
    places = [place for place in case.firsts("activation", "loss") if case.is_origin(place)]
    return places[0] if places else None


def layers(case: Case) -> Iterable[Finding]:
    """Name layers whose settings differ, as far as what they compute may differ by it."""
    place = _begins_in_forward(case)
    settings = list(layer_settings(case))
    moving = {p.track.pair.layer for p in case.firsts("weight") if is_statistic(case, p)}
    reshaped = {one.layer for one in case.pairing.unpaired if one.matters and one.role == "weight"}
    regularised = "regularizer"
    for setting in settings:
        confirmed = place is not None and (
            place.track.pair.layer in (None, setting.layer) or place.track.pair.role == "loss"
        )
        if regularised in setting.key and place is None:
            confirmed = any(case.is_origin(p) for p in case.firsts("gradient"))
        if _moves_statistics(setting) or (setting.layer in moving and setting.key == "class"):
            continue
        if setting.key.endswith(CONSTRAINT):
            continue  # It acts on weights, after their update
        if setting.layer in reshaped and setting.key in _SHAPING:
            continue
        alone = 0.9 if len(settings) == 1 else 0.75
        yield Finding(
            code="loss.value" if regularised in setting.key else "layer.forward",
            summary=f"Layer {setting.layer} ({setting.kind}) has {setting.key} "
            f"{shown(setting.a)} in A and {shown(setting.b)} in B.",
            confidence=alone if confirmed else 0.4,
            stage="loss" if place is None else place.stage,
            step=place.step if confirmed and place is not None else None,
            subject=f"{setting.layer}.{setting.key}",
            a=plain(setting.a),
            b=plain(setting.b),
            evidence=_forward_evidence(case, place, setting, confirmed=confirmed),
        )
    if place is not None and place.track.pair.role == "activation":
        named = {setting.layer for setting in settings}
        drawn = random_layers(case)
        if place.track.pair.layer not in named and place.track.pair.layer not in drawn:
            yield Finding(
                code="layer.forward",
                summary=f"Layer {place.track.pair.layer} puts out other values at "
                f"{case.where(place.step)}, from equal inputs and weights and with equal settings.",
                confidence=0.7,
                stage="forward",
                step=place.step,
                subject=place.track.pair.layer,
                evidence=("the outputs of the layers before it agree, and so does all state",),
            )


def _forward_evidence(
    case: Case, place: Place | None, setting: Setting, *, confirmed: bool
) -> tuple[str, ...]:
    if place is None or not confirmed:
        first = case.first
        begin = "" if first is None else f"; the first divergence is in the {first.stage} stage"
        return (f"the recorded configurations differ{begin}",)
    return (
        (
            f"{place.track.pair.name} differs at {case.where(place.step)} while the data and all "
            "state before the step agree"
        ),
        f"of the resolved settings of {setting.layer}, {setting.key} differs",
    )


def random_layer(case: Case) -> Iterable[Finding]:
    """Point to layers that draw random numbers where the forward pass is where runs part."""
    place = _begins_in_forward(case)
    drawn = random_layers(case)
    if place is None or not drawn:
        return
    own = place.track.pair.layer in drawn
    yield Finding(
        code="layer.random",
        summary=f"{listed(drawn)} {'draws' if len(drawn) == 1 else 'draw'} random numbers, and "
        f"{place.track.pair.name} differs at {case.where(place.step)} on equal data and weights.",
        confidence=0.95 if own else 0.7 if not list(layer_settings(case)) else 0.5,
        stage=place.stage,
        step=place.step,
        subject=drawn[0] if len(drawn) == 1 else f"{len(drawn)} layers",
        evidence=(
            "masks agree across almost no two versions, even with a layer's seed set",
            "set their rates to 0 in both scripts to see whether anything else differs",
        ),
    )


def loss(case: Case) -> Iterable[Finding]:
    """Name a loss that was compiled otherwise."""
    a, b = (run.about.get("compile") or {} for run in (case.a, case.b))
    place = next((p for p in case.firsts("loss") if case.is_origin(p)), None)
    for key in ("loss", "loss_weights"):
        one, other = a.get(key), b.get(key)
        if key not in a or key not in b or _same_loss(one, other):
            continue
        yield Finding(
            code="loss.value",
            summary=f"The model is compiled with {key.replace('_', ' ')} {shown(one)} in A and "
            f"{shown(other)} in B.",
            confidence=0.9 if place is not None else 0.4,
            stage="loss",
            step=None if place is None else place.step,
            subject=key,
            a=plain(one),
            b=plain(other),
            evidence=(
                f"the loss differs at {case.where(place.step)} on equal data and weights"
                if place is not None
                else "the recorded compile arguments differ",
            ),
        )


_LOSS_NAMES = {
    "mse": "meansquarederror",
    "mae": "meanabsoluteerror",
    "mape": "meanabsolutepercentageerror",
    "msle": "meansquaredlogarithmicerror",
    "bce": "binarycrossentropy",
    "kld": "kldivergence",
    "kullbackleiblerdivergence": "kldivergence",
    "logcosh": "logcosh",
    "cosineproximity": "cosinesimilarity",
}
_LOSS_DEFAULTS = {
    "from_logits": (False,),
    "label_smoothing": (0, 0.0),
    "axis": (-1,),
    "ignore_class": (None,),
    "delta": (1, 1.0),
}


def _same_loss(a: object, b: object) -> bool:
    if isinstance(a, list | tuple) and isinstance(b, list | tuple):
        return len(a) == len(b) and all(map(_same_loss, a, b))
    if isinstance(a, list | tuple) and len(a) == 1:
        return _same_loss(a[0], b)
    if isinstance(b, list | tuple) and len(b) == 1:
        return _same_loss(a, b[0])
    name_a, settings_a = _loss_parts(a)
    name_b, settings_b = _loss_parts(b)
    if name_a is None or name_b is None:
        return same_setting(a, b)
    return name_a == name_b and all(
        same_setting(settings_a.get(key), settings_b.get(key))
        for key in settings_a.keys() | settings_b.keys()
    )


def _loss_parts(loss: object) -> tuple[str | None, dict[str, object]]:
    """Return the name of a loss in one spelling and the settings that are no defaults."""
    settings: dict[str, object] = {}
    if isinstance(loss, dict):
        config = loss.get("config")
        if not loss.get("class_name"):
            return None, {}
        name = str(loss["class_name"])
        if isinstance(config, dict):
            if name == "LossFunctionWrapper":
                name = str(config.get("fn") or config.get("name") or name)
            settings = {
                key: value
                for key, value in config.items()
                if key not in ("name", "fn", "reduction", "dtype")
                and value not in _LOSS_DEFAULTS.get(key, (None,))
            }
            reduction = str(config.get("reduction", "auto")).lower()
            if reduction not in ("auto", "sum_over_batch_size", "mean", "none_given"):
                settings["reduction"] = reduction
    elif isinstance(loss, str):
        name = loss
    else:
        return None, {}
    plainly = name.rpartition(".")[2].replace("_", "").lower()
    return _LOSS_NAMES.get(plainly, plainly), settings


def is_statistic(case: Case, place: Place) -> bool:
    """Say whether a divergence is in state that moves without being trained."""
    tensor = case.a.find("weight", place.track.pair.a or "")
    return place.stage == "update" and tensor is not None and tensor.trainable is False


def statistics(case: Case) -> Iterable[Finding]:
    """Find non-trained state that evolves otherwise from equal inputs."""
    groups: dict[str, list[Place]] = {}
    for place in case.firsts("weight"):
        if is_statistic(case, place) and case.is_origin(place):
            groups.setdefault(place.track.pair.layer or place.track.pair.name, []).append(place)
    settings = {(one.layer, one.key): one for one in layer_settings(case)}
    yield from _masked([one for one in settings.values() if one.layer not in groups])
    for layer, places in groups.items():
        first = places[0]
        names = [place.track.pair.name for place in places]
        momentum = settings.get((layer, "momentum"))
        how = ""
        if momentum is not None:
            how = f": momentum is {shown(momentum.a)} in A and {shown(momentum.b)} in B"
        yield Finding(
            code="layer.state",
            summary=f"{listed(names)} {'moves' if len(names) == 1 else 'move'} otherwise from "
            f"{case.where(first.step)} on{how}.",
            confidence=0.95 if momentum is not None else 0.8,
            stage="update",
            step=first.step,
            subject=layer,
            a=None if momentum is None else plain(momentum.a),
            b=None if momentum is None else plain(momentum.b),
            evidence=(
                "the data, all weights and the loss of the step agree",
                *_moves(case, places),
            ),
        )


def _moves_statistics(setting: Setting) -> bool:
    return setting.kind.endswith("Normalization") and setting.key == "momentum"


def _masked(settings: list[Setting]) -> Iterable[Finding]:
    """Name momenta of statistics whose own effect cannot be seen, for what went in differs."""
    for setting in settings:
        if _moves_statistics(setting):
            yield Finding(
                code="layer.state",
                summary=f"Layer {setting.layer} ({setting.kind}) has momentum {shown(setting.a)} "
                f"in A and {shown(setting.b)} in B, so that its moving statistics follow "
                "otherwise.",
                confidence=0.6,
                stage="update",
                step=None,
                subject=setting.layer,
                a=plain(setting.a),
                b=plain(setting.b),
                evidence=(
                    "the recorded configurations differ; what the layer normalises differs, too",
                ),
            )


def _factor(case: Case, place: Place) -> str | None:
    """Say by which one factor the variances of the batches differ, where they do."""
    if not place.track.pair.name.endswith("/moving_variance"):
        return None
    steps = np.flatnonzero(place.track.after["differs"])
    found = variance_factor(case.a, case.b, place.track.pair, map(int, steps[steps >= place.step]))
    if found is None:
        return None
    return (
        f"the variances of the batches, which {place.track.pair.name} takes in, are "
        f"{found.value:.6g} (± {short(found.error)}) times as large in B, in all channels, over "
        f"{found.steps} steps"
    )


def _moves(case: Case, places: list[Place]) -> list[str]:
    """Say by which factor the change of a statistic differs, where one factor fits."""
    result = []
    for place in places:
        key, step = place.track.pair.key, place.step
        factor_of_batches = _factor(case, place)
        if factor_of_batches is not None:
            result.append(factor_of_batches)
            continue
        before, after = case.read(key, step, "before"), case.read(key, step, "after")
        if before is None or after is None:
            continue
        moved_a, moved_b = (
            new.astype(np.float64) - old.astype(np.float64)
            for new, old in zip(after, before, strict=True)
        )
        power = float((moved_a * moved_a).sum())
        if power > 0.0:
            factor = float((moved_a * moved_b).sum()) / power
            left = float((((moved_b - factor * moved_a) ** 2).sum() / power) ** 0.5)
            fits = "exactly so in every element" if left < 1e-3 else "but not in every element"
            result.append(f"{key[1]} moves {factor:.4g} times as far in B, {fits}")
    return result
