"""The steps of the tf.keras in TensorFlow 1.15 by hand: a graph of their own, `tf.gradients`."""

from __future__ import annotations

import contextlib

import oracle_keras23
import tensorflow as tf
from oracle import main


class ByHand(oracle_keras23.ByHand):
    """A second copy of a model, in a graph that the recorder never saw."""

    def __init__(self, spec, rule):
        super().__init__(spec, rule)
        self.unwatched = Unwatched(spec, rule)

    def _build(self, spec, rule):
        self._build_model(spec)
        trained = [self.by_name[name] for name in spec.trained]
        made = tf.gradients(self.loss, trained)
        self.gradient = [tf.convert_to_tensor(g) for g in made]
        self.fed = [tf.compat.v1.placeholder("float32", v.shape) for v in trained]
        self.clip = self._clipped_by(rule.make())
        # A sparse gradient goes another way through the optimizer than a dense one.
        self.rows = {
            i: (
                tf.compat.v1.placeholder("float32", (None, *v.shape.as_list()[1:])),
                tf.compat.v1.placeholder("int64", (None,)),
            )
            for i, (g, v) in enumerate(zip(made, trained))
            if hasattr(g, "indices")
        }
        self.rule = rule.constant(0.5)
        pairs = [
            (tf.IndexedSlices(*self.rows[i], tf.constant(v.shape.as_list())), v)
            if i in self.rows else (fed, v)
            for i, (fed, v) in enumerate(zip(self.fed, trained))
        ]  # fmt: skip
        self.updates = self.rule.apply_gradients(pairs)
        self.slots = {
            ("slot", name + "/" + slot): self.rule.get_slot(variable, slot)
            for name, variable in zip(spec.trained, trained)
            for slot in rule.slots
        }
        self.trained = dict(zip(spec.trained, trained))
        self.session.run(tf.compat.v1.global_variables_initializer())

    def _clipped_by(self, optimizer):
        """As the class says it: each gradient by its own norm, then by value."""
        gradients = list(self.fed)
        if getattr(optimizer, "clipnorm", None) is not None:
            gradients = [tf.clip_by_norm(g, optimizer.clipnorm) for g in gradients]
        if getattr(optimizer, "clipvalue", None) is not None:
            limit = optimizer.clipvalue
            gradients = [tf.clip_by_value(g, -limit, limit) for g in gradients]
        return gradients

    def update(self, step, rate, before, slots, applied, _truth):
        feed = {}
        for position, gradient in enumerate(applied):
            if position in self.rows:
                feed.update(zip(self.rows[position], gradient))
            else:
                feed[self.fed[position]] = gradient
        for variable, value in (
            (self.rule.learning_rate, rate), (self.rule.iterations, step),
            *((v, before[name]) for name, v in self.trained.items()),
            *((v, slots[place]) for place, v in self.slots.items()),
        ):  # fmt: skip
            variable.load(value, self.session)
        self.session.run(self.updates, feed)
        weights = self.session.run(self.trained)
        return weights, {place: self.session.run(v) for place, v in self.slots.items()}

    def whole_step(self, step, before, slots, x, y):
        return self.unwatched.step(step, before, slots, x, y)


class Unwatched:
    """A third copy, which the framework trains and nobody watches.

    Its graph is rewritten as that of the training is, where the one above is another graph.
    """

    def __init__(self, spec, rule):
        self.graph = tf.Graph()
        self.session = tf.compat.v1.Session(graph=self.graph)
        with self._in_graph():
            self.model = spec.build()
            optimizer = rule.make()
            self.model.compile(optimizer, loss=spec.losses, loss_weights=spec.loss_weights)
            x, y = spec.data()
            self.model.train_on_batch(_one_or_all(x), _one_or_all(y))  # makes the slots
            self.iterations = optimizer.iterations
            variables = [v for layer in self.model.layers for v in layer.weights]
            self.weights = dict(zip(spec.weights, variables))
            self.slots = {
                ("slot", name + "/" + slot): optimizer.get_slot(self.weights[name], slot)
                for name in spec.trained
                for slot in rule.slots
            }

    @contextlib.contextmanager
    def _in_graph(self):
        with self.graph.as_default(), self.session.as_default():
            yield

    def step(self, step, before, slots, x, y):
        """Does one step from a given state and returns the state that it leads to."""
        with self._in_graph():
            self.iterations.load(step, self.session)
            for name, variable in self.weights.items():
                variable.load(before[name], self.session)
            for place, variable in self.slots.items():
                variable.load(slots[place], self.session)
            self.model.train_on_batch(_one_or_all(x), _one_or_all(y))
            found = {place: self.session.run(v) for place, v in self.slots.items()}
            for name, variable in self.weights.items():
                found["weight", name] = self.session.run(variable)
        return found


def _one_or_all(parts):
    return parts if len(parts) > 1 else parts[0]


if __name__ == "__main__":
    main(ByHand)
