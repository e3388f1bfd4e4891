"""The steps of tf.keras 2.15 and tf_keras by hand, with the new optimizers and the legacy ones."""

from __future__ import annotations

import oracle_tf23
from listed_slots import listed_slots
from oracle import main


class ByHand(oracle_tf23.ByHand):
    """A second copy of a model, trained by nobody."""

    def _slots(self, optimizer, names):
        if hasattr(optimizer, "get_slot"):
            return super()._slots(optimizer, names)
        return listed_slots(optimizer, self.spec.trained, names)

    def _clip(self, gradients):
        optimizer = self.with_clipping
        if hasattr(optimizer, "_clip_gradients"):
            return optimizer._clip_gradients(gradients)
        pairs = optimizer._transform_gradients(list(zip(gradients, self.trained)))
        return [gradient for gradient, _ in pairs]


if __name__ == "__main__":
    main(ByHand)
