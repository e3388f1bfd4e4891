"""The steps of Keras 2.3.1 by hand: a graph and a session of their own, and `tf.gradients`."""

from __future__ import annotations

import tensorflow as tf
from oracle import keras, main
from recorded import densified


class ByHand:
    """A second copy of a model, in a graph that the recorder never saw."""

    whole_step = None  # The update is bit-equal by itself: no compiler works across it here.

    def __init__(self, spec, rule):
        self.spec = spec
        self.notes = []
        self.graph = tf.Graph()
        self.session = tf.compat.v1.Session(graph=self.graph)
        with self.graph.as_default(), self.session.as_default():
            self._build(spec, rule)

    def _build_model(self, spec):
        self.training = keras.backend.learning_phase()
        self.model = spec.build()
        self.targets = [tf.compat.v1.placeholder("float32", (None, size)) for size in spec.outputs]
        total = None
        for kind, weight, target, output in zip(
            spec.losses, spec.loss_weights, self.targets, self.model.outputs
        ):
            loss = weight * tf.reduce_mean(keras.losses.get(kind)(target, output))
            total = loss if total is None else total + loss
        self.loss = total
        self.by_name = dict(zip(spec.weights, self._variables()))

    def _build(self, spec, rule):
        self._build_model(spec)
        trained = [self.by_name[name] for name in spec.trained]
        self.gradient = [tf.convert_to_tensor(g) for g in tf.gradients(self.loss, trained)]

        self.fed = [tf.compat.v1.placeholder("float32", v.shape) for v in trained]
        with_clipping = rule.make()
        keras_gradients, keras.backend.gradients = keras.backend.gradients, lambda *_: self.fed
        try:
            self.clip = with_clipping.get_gradients(None, trained)
        finally:
            keras.backend.gradients = keras_gradients

        self.rule = rule.constant(0.5)
        self.rule.get_gradients = lambda _loss, _params: self.fed
        # Without the first, which counts: when it runs is a race in this version of Keras.
        self.updates = self.rule.get_updates(None, trained)[1:]
        count = len(trained)
        slots = self.rule.weights[1 : 1 + count * len(rule.slots)]
        self.slots = {
            ("slot", name + "/" + slot): slots[kind * count + position]
            for kind, slot in enumerate(rule.slots)
            for position, name in enumerate(spec.trained)
        }
        self.trained = dict(zip(spec.trained, trained))
        self.session.run(tf.compat.v1.global_variables_initializer())

    def _variables(self):
        # `Model.weights` lists what is trained first; `get_weights`, and so the names here, do not.
        return [v for layer in self.model.layers for v in layer.weights]

    def gradients(self, before, x, y):
        for variable, value in zip(self._variables(), before):
            variable.load(value, self.session)
        feed = dict(zip(self.model.inputs + self.targets, x + y))
        feed[self.training] = True
        loss, gradients, _ = self.session.run([self.loss, self.gradient, self.model.updates], feed)
        return loss, gradients

    def untrained(self):
        """What the forward pass itself changed."""
        found = dict(zip(self.spec.weights, self.session.run(self._variables())))
        return {name: found[name] for name in found if name not in self.spec.trained}

    def clipped(self, raw):
        return self.session.run(self.clip, dict(zip(self.fed, self._dense(raw))))

    def _dense(self, gradients):
        return [densified(g, p.shape.as_list()) for g, p in zip(gradients, self.fed)]

    def update(self, step, rate, before, slots, applied, truth):
        """Runs the update with either reading of the step counter; the record must hold one."""
        feed = dict(zip(self.fed, self._dense(applied)))
        self.rule.learning_rate.load(rate, self.session)
        found = []
        for ahead in (0, 1):
            for name, variable in self.trained.items():
                variable.load(before[name], self.session)
            for place, variable in self.slots.items():
                variable.load(slots[place], self.session)
            self.rule.iterations.load(step + ahead, self.session)
            self.session.run(self.updates, feed)
            weights = self.session.run(self.trained)
            found.append((weights, {k: self.session.run(v) for k, v in self.slots.items()}))
            if all((weights[name] == truth[name]).all() for name in truth):
                self.notes.append(ahead)
                return found[-1]
        self.notes.append(-1)
        return found[0]


if __name__ == "__main__":
    main(ByHand)
