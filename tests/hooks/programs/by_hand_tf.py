"""What hand-made steps on TensorFlow 2 share: a tape and an optimizer in functions of their own."""

from __future__ import annotations

import tensorflow as tf
from oracle import keras


class ByHand:
    """A second copy of a model, trained by nobody.

    What is asked of the optimizer differs from stack to stack: `_make_slots`, `_slots`, `_clip`,
    `_apply`; and so does what the tape differentiates by, `_sources`.
    """

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
        for optimizer in (self.rule, self.with_clipping):
            self._make_slots(optimizer)
        self.slots_of = [
            self._slots(owner, rule.slots) for owner in (self.rule, self.with_clipping)
        ]
        self.model.compile(self.with_clipping, loss=spec.losses, loss_weights=spec.loss_weights)
        self._trace()

    def _trace(self):
        batch = [
            [tf.TensorSpec((None, *v.shape[1:]), v.dtype) for v in part]
            for part in self.spec.data()
        ]
        self.tape = tf.function(self._dense_tape, input_signature=batch)
        self.step = tf.function(self._step)
        self.clip = tf.function(self._clip)

    def _dense_tape(self, x, y):
        loss, gradients = self._tape(x, y)
        return loss, [tf.convert_to_tensor(g) for g in gradients]

    def _tape(self, x, y):
        with tf.GradientTape() as tape:
            outputs = self.model(x if len(x) > 1 else x[0], training=True)
            outputs = outputs if isinstance(outputs, (list, tuple)) else [outputs]
            loss = None
            for kind, weight, target, output in zip(
                self.losses, self.spec.loss_weights, y, outputs
            ):
                part = weight * tf.reduce_mean(kind(target, output))
                loss = part if loss is None else loss + part
        return loss, tape.gradient(loss, self._sources())

    def _step(self, gradients):
        self._apply(self.rule, gradients)

    def gradients(self, before, x, y):
        for variable, value in zip(self.model.weights, before):
            variable.assign(value)
        loss, gradients = self.tape([tf.constant(v) for v in x], [tf.constant(v) for v in y])
        return loss.numpy(), [g.numpy() for g in gradients]

    def _tensors(self, gradients):
        return [
            tf.IndexedSlices(tf.constant(g[0]), tf.constant(g[1]), tf.constant(list(v.shape)))
            if isinstance(g, tuple) else tf.constant(g)
            for g, v in zip(gradients, self.trained)
        ]  # fmt: skip

    def clipped(self, raw):
        return [
            (g.values.numpy(), g.indices.numpy()) if hasattr(g, "indices") else g.numpy()
            for g in self.clip(self._tensors(raw))
        ]

    def untrained(self):
        """What the forward pass itself changed."""
        return {
            name: variable.numpy()
            for name, variable in zip(self.spec.weights, self.model.weights)
            if name not in self.spec.trained
        }

    def update(self, step, rate, before, slots, applied, _truth):
        self._assign(step, before, slots)
        self.rule.learning_rate.assign(rate)
        self.step(self._tensors(applied))
        weights = dict(zip(self.spec.weights, (v.numpy() for v in self.model.weights)))
        return weights, {place: variable.numpy() for place, variable in self.slots_of[0].items()}

    def whole_step(self, step, before, slots, x, y):
        """The framework's own step, which nobody watches."""
        self._assign(step, before, slots)
        self.model.train_on_batch(x if len(x) > 1 else x[0], y if len(y) > 1 else y[0])
        found = {place: variable.numpy() for place, variable in self.slots_of[1].items()}
        for name, variable in zip(self.spec.weights, self.model.weights):
            found["weight", name] = variable.numpy()
        return found

    def _assign(self, step, before, slots):
        for variable, value in zip(self.model.weights, before.values()):
            variable.assign(value)
        for optimizer, own in zip((self.rule, self.with_clipping), self.slots_of):
            optimizer.iterations.assign(step)
            for place, variable in own.items():
                variable.assign(slots[place])
