"""The steps of Keras 3 on JAX by hand: `jax.value_and_grad` and an optimizer, each compiled."""

from __future__ import annotations

import by_hand_keras3
import jax
from by_hand_keras3 import array
from oracle import main


class ByHand(by_hand_keras3.ByHand):
    """A second copy of a model, trained by nobody."""

    def __init__(self, spec, rule):
        super().__init__(spec, rule)
        self.tape = jax.jit(jax.value_and_grad(self._loss, has_aux=True))
        self.clip = jax.jit(self.with_clipping._clip_gradients)
        self.apply = jax.jit(self.rule.stateless_apply)

    def _loss(self, trained, untrained, x, y):
        outputs, untrained = self.model.stateless_call(
            trained, untrained, x if len(x) > 1 else x[0], training=True
        )
        return self.loss(y, outputs), untrained

    def gradients(self, before, x, y):
        self.assign_weights(before)
        untrained = self.model.non_trainable_variables
        (loss, left), gradients = self.tape(
            [v.value for v in self.trained], [v.value for v in untrained], x, y
        )
        for variable, value in zip(untrained, left):
            variable.assign(value)
        return array(loss), [array(g) for g in gradients]

    def clipped(self, raw):
        return [array(g) for g in self.clip(raw)]

    def step(self, gradients):
        optimizer = self.rule
        trained, state = self.apply(
            [v.value for v in optimizer.variables], gradients, [v.value for v in self.trained]
        )
        for variable, value in zip([*self.trained, *optimizer.variables], [*trained, *state]):
            variable.assign(value)


if __name__ == "__main__":
    main(ByHand)
