"""What the hand-made steps of Keras 3 share on the backends that are not TensorFlow."""

from __future__ import annotations

import numpy as np
from listed_slots import listed_slots
from oracle import keras


def array(value):
    return np.array(keras.ops.convert_to_numpy(value))


class ByHand:
    """A second copy of a model, trained by nobody."""

    def __init__(self, spec, rule):
        self.spec = spec
        self.notes = []
        self.model = spec.build()
        if not self.model.built:
            self.model.build((None,) + spec.inputs[0])
        by_name = dict(zip(spec.weights, self.model.weights))
        self.trained = [by_name[name] for name in spec.trained]
        self.losses = [keras.losses.get(kind) for kind in spec.losses]
        self.with_clipping = rule.make()
        self.rule = rule.constant(0.5)
        self.rule.build(self.trained)
        self.with_clipping.build(self.trained)
        self.slots_of = [
            listed_slots(optimizer, spec.trained, rule.slots)
            for optimizer in (self.rule, self.with_clipping)
        ]
        self.model.compile(self.with_clipping, loss=spec.losses, loss_weights=spec.loss_weights)

    def loss(self, y, outputs):
        outputs = outputs if isinstance(outputs, (list, tuple)) else [outputs]
        total = None
        for kind, weight, target, output in zip(self.losses, self.spec.loss_weights, y, outputs):
            part = weight * keras.ops.mean(kind(target, output))
            total = part if total is None else total + part
        return total

    def assign_weights(self, before):
        for variable, value in zip(self.model.weights, before):
            variable.assign(value)

    def untrained(self):
        """What the forward pass itself changed."""
        return {
            name: array(variable)
            for name, variable in zip(self.spec.weights, self.model.weights)
            if name not in self.spec.trained
        }

    def update(self, step, rate, before, slots, applied, _truth):
        self.assign(step, before, slots)
        self.rule.learning_rate.assign(rate)
        self.step(applied)
        weights = dict(zip(self.spec.weights, map(array, self.model.weights)))
        return weights, {place: array(variable) for place, variable in self.slots_of[0].items()}

    def whole_step(self, step, before, slots, x, y):
        """The framework's own step, which nobody watches."""
        self.assign(step, before, slots)
        self.model.train_on_batch(x if len(x) > 1 else x[0], y if len(y) > 1 else y[0])
        found = {place: array(variable) for place, variable in self.slots_of[1].items()}
        for name, variable in zip(self.spec.weights, self.model.weights):
            found["weight", name] = array(variable)
        return found

    def assign(self, step, before, slots):
        self.assign_weights(before.values())
        for optimizer, own in zip((self.rule, self.with_clipping), self.slots_of):
            optimizer.iterations.assign(step)
            for place, variable in own.items():
                variable.assign(slots[place])
