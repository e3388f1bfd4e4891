"""What restores the old behaviour of an optimizer: the line of code, where there is one."""

from __future__ import annotations

from collections.abc import Mapping

from tracediff.diagnose.numbers import spelled
from tracediff.model import Finding

_INSIDE = (
    "with epsilon inside the root there is no exact equivalent at the same epsilon: subclass the "
    "optimizer and override update_step to divide by ops.sqrt({slot}) + self.epsilon; "
    "epsilon=epsilon_old**2 agrees where {slot} is near zero"
)
_RULES: Mapping[frozenset[str], str] = {
    frozenset({"rmsprop, epsilon outside", "rmsprop, epsilon inside"}): _INSIDE.format(
        slot="velocity"
    ),
    frozenset(
        {"rmsprop, centered, epsilon outside", "rmsprop, centered, epsilon inside"}
    ): _INSIDE.format(slot="velocity - square(average_grad)"),
    frozenset({"adagrad, epsilon outside", "adagrad, epsilon inside"}): _INSIDE.format(
        slot="accumulator"
    ),
    frozenset({"sgd, momentum", "sgd, nesterov"}): "pass the same nesterov= to both",
    frozenset({"adam", "adam, amsgrad"}): "pass the same amsgrad= to both",
    frozenset({"nadam, scheduled", "nadam"}): (
        "Keras 3 (and tf.keras from 2.11) fixed the warm-up of Nadam's momentum at 0.96^t; the "
        "old 0.96^(0.004 t) takes a subclass that overrides update_step, or "
        "tf_keras.optimizers.legacy.Nadam"
    ),
    frozenset({"ftrl", "ftrl, linear times lr"}): (
        "leave l2_shrinkage_regularization_strength at 0, or carry the slot over divided by lr"
    ),
}
COUNTER = (
    "to repeat a counter one too high elsewhere, start it at one: optimizer.iterations.assign(1) "
    "before fit; to be rid of it, train with tf.keras instead of Keras 2.3"
)
SPARSE = (
    "Keras 2.3 moves every row of an embedding; tf.keras of TensorFlow 1.15 to 2.10 only the rows "
    "of the batch where the slot is a moving average in a kernel (SGD momentum, RMSprop with "
    "momentum, Adadelta, Adamax, Ftrl; Nadam's weight); Keras 3 moves every row but squares "
    "repeated ids one by one. A dense gradient (one-hot times the table) is treated alike by all"
)
CLIPPING = (
    "clipnorm bounds all gradients together in Keras 2.3 and each on its own elsewhere: pass "
    "global_clipnorm= where the old code passed clipnorm= (Keras 3, tf.keras from 2.4), or clip "
    "with tf.clip_by_global_norm in a train_step of your own (2.3)"
)
_SLOTS: Mapping[tuple[str, str], str] = {
    ("adagrad", "accumulator"): (
        "Adagrad starts from 0 in Keras 2.3 and from 0.1 later: pass "
        "initial_accumulator_value=0 (and learning_rate=0.01) to get the old"
    ),
    ("ftrl", "accumulator"): "pass the same initial_accumulator_value= to both",
    ("rmsprop", "rms"): (
        "tf.compat.v1.train.RMSPropOptimizer starts its mean square from 1, all others from 0"
    ),
}


def for_rules(one: str, other: str) -> str | None:
    """Return what to do about two rules of one class, by their keys on the shelf."""
    return _RULES.get(frozenset({one, other}))


def for_slot(family: str, slot: str) -> str | None:
    """Return what to do about a slot that starts from other values."""
    return _SLOTS.get((family, slot))


_GENERAL: Mapping[str, str] = {
    "data.order": (
        "feed both in one order: fit(..., shuffle=False) after one permutation of your own, "
        "np.random.RandomState(0).permutation(len(x))"
    ),
    "data.transform": "apply A's preprocessing in B, step by step in A's order, before fit",
    "data.dtype": "keep the samples in A's precision up to fit: x.astype('float32')",
    "data.content": "look at the rows named, in the files or the pipeline that B reads",
    "data.labels": "make B's labels from A's code: print(y[:5]) in both",
    "data.sample_weight": "pass the same sample_weight= and class_weight= to both calls of fit",
    "init.draw": (
        "start both from the same weights: save A's with model.save_weights before fit, and load "
        "them in B"
    ),
    "model.structure": "build both models with the same layers and arguments",
    "layer.random": (
        "no seed makes two versions draw alike: set the rates to 0 in both to compare the rest"
    ),
    "loss.value": "compile both with the same loss, its arguments given in full",
    "gradient.raw": "look for custom gradients and stop_gradient between the layers named",
    "state.trainable": "set layer.trainable alike in both, before compile",
    "state.external": "look for callbacks, set_weights or loading between the steps named",
    "precision": "give both one precision policy: mixed_precision.set_global_policy('float32')",
    "metric.definition": "pass the metric as the same object, not by a name that versions read",
    "optimizer.schedule": (
        "give both one schedule: LearningRateScheduler(lambda epoch: ...), or a constant rate"
    ),
}


def general(finding: Finding) -> str | None:
    """Return what to try where a rule has nothing more particular.

    Args:
        finding: What was found.
    """
    if finding.code == "optimizer.hyperparameter" and _plain(finding.a) and finding.subject:
        return f"in B's optimizer: {finding.subject}={spelled(finding.a)}"
    if finding.code == "data.batching" and isinstance(finding.a, int):
        return f"in B: fit(..., batch_size={finding.a}), or drop the same partial batches"
    if finding.code == "gradient.processing" and _plain(finding.a) and finding.subject:
        return f"in B's optimizer: {finding.subject}={spelled(finding.a)}"
    if finding.code in ("layer.forward", "layer.state", "loss.value"):
        layer, _, key = (finding.subject or "").partition(".")
        if key and _plain(finding.a):
            return f"in B's layer {layer}: {key}={spelled(finding.a)}"
    if finding.code == "init.distribution" and finding.subject:
        return f"in B, pass A's initialiser of {finding.subject}, with all of its arguments"
    return _GENERAL.get(finding.code)


def _plain(value: object) -> bool:
    return value is not None and not isinstance(value, dict)
