"""An ordinary script whose model draws random numbers in every way that layers do.

Usage: random_layers.py SEED [TRACE]. Prints what its layers would draw after the training; records
to TRACE by a callback, with its random layers off, where that is given.
"""

import sys

import numpy as np
from frameworks import keras, start

start(int(sys.argv[1]))
stream = np.random.RandomState(5)
x = stream.randn(24, 4, 3).astype("float32")
y = stream.randint(0, 3, 24)
L = keras.layers
inputs = keras.layers.Input((4, 3))
hidden = L.LSTM(5, dropout=0.4, recurrent_dropout=0.3, recurrent_activation="sigmoid", name="rnn")(
    inputs
)
hidden = L.GaussianNoise(0.5, name="noise")(hidden)
hidden = L.Dense(8, activation="tanh", name="hidden")(hidden)
hidden = L.Dropout(0.5, name="drop")(hidden)
hidden = L.GaussianDropout(0.3, name="gauss")(hidden)
outputs = L.Dense(3, activation="softmax", name="out")(hidden)
model = keras.models.Model(inputs, outputs)
model.compile(keras.optimizers.SGD(0.1), "sparse_categorical_crossentropy")
callbacks = []
if len(sys.argv) > 2:
    from tracediff_hooks import TraceCallback

    callbacks.append(TraceCallback(sys.argv[2], random_layers="off"))
model.fit(x, y, batch_size=8, epochs=2, verbose=0, callbacks=callbacks)
rates = [model.get_layer(name).get_config() for name in ("rnn", "noise", "drop", "gauss")]
print([one.get("rate", one.get("stddev", one.get("dropout"))) for one in rates])
