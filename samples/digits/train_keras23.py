"""Trains a small classifier of handwritten digits: Keras 2.3 on TensorFlow 1.15.

The other scripts beside this one do the same thing on paper; see README.md.
"""

import argparse

import digits
import keras

from tracediff_hooks import TraceCallback


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trace", help="record the training here")
    parser.add_argument("--epochs", type=int, default=2)
    options = parser.parse_args()

    x_train, y_train, x_test, y_test = digits.load()
    model = keras.models.Sequential(
        [
            keras.layers.Dense(24, activation="relu", input_shape=(64,), name="hidden"),
            keras.layers.Dense(10, activation="softmax", name="digit"),
        ]
    )
    model.compile(
        optimizer=keras.optimizers.Adam(lr=0.01),
        loss="sparse_categorical_crossentropy",
        metrics=["accuracy"],
    )
    model.set_weights(digits.initial_weights([w.shape for w in model.get_weights()]))
    callbacks = []
    if options.trace:
        callbacks.append(TraceCallback(options.trace, overwrite=True, compression="zstd"))
    model.fit(
        x_train,
        y_train,
        batch_size=64,
        epochs=options.epochs,
        shuffle=False,
        verbose=0,
        callbacks=callbacks,
    )
    loss, accuracy = model.evaluate(x_test, y_test, verbose=0)
    print(f"Keras 2.3 on TensorFlow 1.15: test loss {loss:.4f}, accuracy {accuracy:.4f}")


if __name__ == "__main__":
    main()
