"""The steps of tf.keras 2.3 by hand: its optimizers keep slots by name."""

from __future__ import annotations

import by_hand_tf
import tensorflow as tf
from oracle import main


class ByHand(by_hand_tf.ByHand):
    """A second copy of a model, trained by nobody."""

    def _make_slots(self, optimizer):
        self._apply(optimizer, [tf.zeros_like(v) for v in self.trained])

    def _slots(self, optimizer, names):
        return {
            ("slot", weight + "/" + slot): optimizer.get_slot(variable, slot)
            for weight, variable in zip(self.spec.trained, self.trained)
            for slot in names
        }

    def _clip(self, gradients):
        return self.with_clipping._clip_gradients(gradients)

    def _sources(self):
        return self.trained

    def _apply(self, optimizer, gradients):
        optimizer.apply_gradients(zip(gradients, self.trained))


if __name__ == "__main__":
    main(ByHand)
