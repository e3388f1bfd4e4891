"""Trainings that several ways share: batches in order, a `fit`, a loop written by hand."""

import numpy as np
from training_kit import problem


def batches(rows=22, size=8):
    x, y = problem(rows)
    return [(x[start : start + size], y[start : start + size]) for start in range(0, rows, size)]


def fit_of(bench, labels=1.0, **options):
    x, y = problem()
    y = y * np.float32(labels)
    bench.note(x=x, y=y)

    def train(callbacks, model):
        model.fit(
            x, y, batch_size=8, epochs=2, shuffle=False, verbose=0, callbacks=callbacks, **options
        )
        return model

    return train


def _torch_loop(bench, optimizer, told):
    import torch

    def loop(model, recording):
        for x, y in batches() * 2:
            with torch.no_grad():
                model(x, training=False)  # nothing is differentiated: no input of the step
            model.zero_grad()
            loss = ((model(x, training=True) - torch.tensor(y)) ** 2).mean()
            loss.backward()
            weights = model.trainable_weights
            gradients = [weight.value.grad for weight in weights]
            if recording is not None and told:
                recording.batch(y=y, loss=loss)
            with torch.no_grad():
                optimizer().apply(gradients, weights)

    return loop


def loop_by_hand(bench, optimizer, told):
    if bench.kit.flavour == "keras3-torch":
        return _torch_loop(bench, optimizer, told)
    tf = bench.kit.tf

    def loop(model, recording):
        for x, y in batches() * 2:
            model(x, training=False)  # what is not on the tape is no input of the step
            with tf.GradientTape() as tape:
                loss = tf.reduce_mean((model(x, training=True) - y) ** 2)
            gradients = tape.gradient(loss, model.trainable_variables)
            if recording is not None and told:
                recording.batch(y=y, loss=loss)
            optimizer().apply_gradients(zip(gradients, model.trainable_variables))

    return loop
