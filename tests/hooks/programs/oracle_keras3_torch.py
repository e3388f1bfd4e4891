"""The steps of Keras 3 on torch by hand: autograd and an optimizer of its own."""

from __future__ import annotations

import by_hand_keras3
import torch
from by_hand_keras3 import array
from oracle import keras, main


class ByHand(by_hand_keras3.ByHand):
    """A second copy of a model, trained by nobody."""

    def gradients(self, before, x, y):
        self.assign_weights(before)
        x, y = ([keras.ops.convert_to_tensor(v) for v in part] for part in (x, y))
        loss = self.loss(y, self.model(x if len(x) > 1 else x[0], training=True))
        gradients = torch.autograd.grad(loss, [v.value for v in self.trained])
        return array(loss), [array(g) for g in gradients]

    def clipped(self, raw):
        clipped = self.with_clipping._clip_gradients([torch.tensor(g) for g in raw])
        return [array(g) for g in clipped]

    def step(self, gradients):
        with torch.no_grad():
            self.rule.apply([torch.tensor(g) for g in gradients], self.trained)


if __name__ == "__main__":
    main(ByHand)
