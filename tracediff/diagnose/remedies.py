"""What restores the old behaviour of an optimizer: the line of code, where there is one."""

from __future__ import annotations

from collections.abc import Mapping

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
_RATES: Mapping[str, str] = {
    "adagrad": "0.01 in Keras 2.3 and 0.001 later",
    "adadelta": "1.0 in Keras 2.3 and 0.001 later",
    "adamax": "0.002 in Keras 2.3 and 0.001 later",
    "nadam": "0.002 in Keras 2.3 and 0.001 later",
    "lion": "1e-4 in tf.keras from 2.11 and 1e-3 in Keras 3",
}


def for_rules(one: str, other: str) -> tuple[str, ...]:
    """Return what to do about two rules of one class, by their keys on the shelf."""
    found = _RULES.get(frozenset({one, other}))
    return (f"remedy: {found}",) if found else ()


def for_slot(family: str, slot: str) -> tuple[str, ...]:
    """Return what to do about a slot that starts from other values."""
    found = _SLOTS.get((family, slot))
    return (f"remedy: {found}",) if found else ()


def for_rate(family: str) -> tuple[str, ...]:
    """Return what to know about learning rates of a class whose default changed."""
    found = _RATES.get(family)
    return (f"the default of {family} is {found}: pass learning_rate=",) if found else ()
