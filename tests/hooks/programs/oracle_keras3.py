"""The steps of Keras 3 on TensorFlow by hand: its optimizers keep slots in lists."""

from __future__ import annotations

import by_hand_tf
from listed_slots import listed_slots
from oracle import main


class ByHand(by_hand_tf.ByHand):
    """A second copy of a model, trained by nobody."""

    def _make_slots(self, optimizer):
        optimizer.build(self.trained)

    def _slots(self, optimizer, names):
        return listed_slots(optimizer, self.spec.trained, names)

    def _clip(self, gradients):
        return self.with_clipping._clip_gradients(gradients)

    def _sources(self):
        return [v.value for v in self.trained]

    def _apply(self, optimizer, gradients):
        optimizer.apply(gradients, self.trained)


if __name__ == "__main__":
    main(ByHand)
