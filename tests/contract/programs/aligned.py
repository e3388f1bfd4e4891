"""Trains one small model per requested variant, each put together in another way, and records it.

Runs on every stack: Python 3.7 and Keras 2.3 upwards. Usage: aligned.py OUT VARIANT... All variants
start from the same numbers, wherever their layers keep them.
"""

import sys
from pathlib import Path

import numpy as np

try:
    import keras
except ImportError:
    keras = None
if not hasattr(keras, "layers"):
    from tensorflow import keras

from tracediff_hooks import TraceCallback

GRAPH = keras.__version__.startswith("2.3.")
BATCH = 16
ROWS = 88  # five full batches and a partial one
STEPS = 6
make = keras.layers


def start():
    if GRAPH:
        import tensorflow as tf

        keras.backend.clear_session()
        config = tf.ConfigProto(intra_op_parallelism_threads=1, inter_op_parallelism_threads=1)
        keras.backend.set_session(tf.Session(config=config))


def drawn(key, shape):
    """The numbers of one weight, the same for every variant that has it."""
    generator = np.random.RandomState(sum(map(ord, key)))
    return generator.uniform(-0.4, 0.4, shape).astype("float32")


def chain(names=("hidden", "middle", "out"), middle=8):
    plan = [(10, "relu"), (middle, "tanh"), (3, "softmax")]
    return [
        make.Dense(units, activation=activation, **({"name": names[place]} if names else {}))
        for place, (units, activation) in enumerate(plan)
    ]


def weights_of(layers, keys):
    """What to set, layer by layer: (layer, its values)."""
    found = []
    for place, layer in enumerate(layers):
        kernel, bias = layer.get_weights()
        key = keys[place]
        found.append((layer, [drawn(key + "k", kernel.shape), drawn(key + "b", bias.shape)]))
    return found


def sequential(layers):
    model = keras.models.Sequential(layers)
    model.build((None, 12))
    return model


def functional(layers):
    first = keras.Input((12,))
    x = first
    for layer in layers:
        x = layer(x)
    return keras.Model(first, x)


def nested(layers):
    inner = functional(layers[:2])
    first = keras.Input((12,))
    return keras.Model(first, layers[2](inner(first)))


class Subclassed(keras.Model):
    """Declares its last layer first."""

    def __init__(self, layers):
        super().__init__()
        self.head = layers[2]
        self.body = layers[0]
        self.neck = layers[1]

    def call(self, x):
        return self.head(self.neck(self.body(x)))


def subclassed(layers):
    model = Subclassed(layers)
    if GRAPH:
        model._set_inputs(np.zeros((1, 12), "float32"))
    else:
        model(np.zeros((1, 12), "float32"))
    return model


class Turned(make.Layer):
    """A dense layer that keeps its kernel the other way round."""

    def __init__(self, units, **options):
        super().__init__(**options)
        self.units = units

    def build(self, shape):
        self.kernel = self.add_weight(
            name="kernel", shape=(self.units, int(shape[-1])), initializer="uniform"
        )
        self.bias = self.add_weight(name="bias", shape=(self.units,), initializer="zeros")
        super().build(shape)

    def call(self, x):
        if hasattr(keras, "ops"):
            return keras.ops.matmul(x, keras.ops.transpose(self.kernel)) + self.bias
        return keras.backend.dot(x, keras.backend.transpose(self.kernel)) + self.bias

    def compute_output_shape(self, shape):
        return (shape[0], self.units)


def towers(mirrored):
    """Two layers that look alike beside each other, added; made in one order or the other."""
    first = keras.Input((12,))
    if mirrored:
        right, left = make.Dense(6, activation="tanh"), make.Dense(6, activation="relu")
        sides = [right(first), left(first)]
    else:
        left, right = make.Dense(6, activation="relu"), make.Dense(6, activation="tanh")
        sides = [left(first), right(first)]
    last = make.Dense(3, activation="softmax")
    model = keras.Model(first, last(make.Add()(sides)))
    return model, weights_of([left, right, last], ["left", "right", "last"])


def inputs(swapped):
    """Two inputs, the same layer shapes behind each; B feeds and declares them the other way."""
    ones = [keras.Input((6,)), keras.Input((6,))]
    one, other = make.Dense(5, activation="relu"), make.Dense(5, activation="relu")
    merged = make.Add()([one(ones[0]), other(ones[1])])
    last = make.Dense(3, activation="softmax")
    model = keras.Model(ones[::-1] if swapped else ones, last(merged))
    return model, weights_of([one, other, last], ["one", "other", "last"])


def heads(fused):
    """Three layers side by side, or one that is all of them."""
    first = keras.Input((12,))
    keys = ["q", "k", "v"]
    last = make.Dense(3, activation="softmax", name="out")
    if fused:
        whole = make.Dense(12, name="qkv")
        model = keras.Model(first, last(whole(first)))
        values = [
            np.concatenate([drawn(key + "k", (12, 4)) for key in keys], axis=1),
            np.concatenate([drawn(key + "b", (4,)) for key in keys]),
        ]
        return model, [(whole, values), *weights_of([last], ["last"])]
    parts = [make.Dense(4, name=key) for key in keys]
    model = keras.Model(first, last(make.Concatenate()([part(first) for part in parts])))
    return model, weights_of([*parts, last], [*keys, "last"])


def joined(mirrored=False, moved=False):
    """Two branches put together in one order or the other; `moved` exchanges only the weights."""
    first = keras.Input((12,))
    left, right = make.Dense(6, activation="relu"), make.Dense(4, activation="tanh")
    last = make.Dense(3, activation="softmax", name="out")
    sides = [left(first), right(first)]
    joined_up = make.Concatenate()(sides[::-1] if mirrored else sides)
    model = keras.Model(first, last(joined_up))
    found = weights_of([left, right, last], ["left", "right", "last"])
    if mirrored or moved:
        kernel = found[2][1][0]
        found[2][1][0] = np.concatenate([kernel[6:], kernel[:6]])
    return model, found


def asked():
    """Attention: a bias of its keys has a gradient of zero, but for rounding."""
    first = keras.Input((12,))
    rows = make.Reshape((3, 4))(first)
    layers = [make.Dense(4, name="query"), make.Dense(4, name="key")]
    weights = make.Softmax()(make.Dot(axes=2)([layers[0](rows), layers[1](rows)]))
    layers.append(make.Dense(3, activation="softmax", name="out"))
    seen = make.Flatten()(make.Dot(axes=(2, 1))([weights, rows]))
    model = keras.Model(first, layers[2](seen))
    return model, weights_of(layers, ["query", "key", "last"])


def recurrent(**options):
    layers = [make.GRU(4, name="rnn", recurrent_activation="sigmoid", **options)]
    layers.append(make.Dense(3, activation="softmax", name="out"))
    model = keras.models.Sequential(layers)
    model.build((None, 5, 3))
    kernel, recurrent_kernel, bias = layers[0].get_weights()
    values = [drawn("gk", kernel.shape), drawn("gr", recurrent_kernel.shape), np.zeros_like(bias)]
    return model, [(layers[0], values), *weights_of(layers[1:], ["out"])]


def normalised(flat=False):
    """Batch normalisation of what hardly varies, so that its moving variance hides what goes in."""
    first = keras.Input((12,))
    if flat:
        layer = make.Dense(6, name="small")
        x = layer(first)
    else:
        layer = make.Conv2D(4, 2, name="small")
        x = layer(make.Reshape((2, 6, 1))(first))
    x = make.BatchNormalization(momentum=0.97, name="bn")(x)
    x = x if flat else make.Flatten()(x)
    last = make.Dense(3, activation="softmax", name="out")
    model = keras.Model(first, last(x))
    found = weights_of([layer, last], ["small", "last"])
    found[0][1][0] *= np.float32(0.15)
    return model, found


def dense(build, layers, keys=("h", "m", "o")):
    model = build(layers)
    return model, weights_of(layers, keys)


def inserted():
    layers = chain()
    extra = make.Dense(8, activation="tanh", name="extra")
    model = sequential([*layers[:2], extra, layers[2]])
    return model, weights_of([*layers, extra], ["h", "m", "o", "x"])


def turned():
    layers = chain()
    layers[0] = Turned(10, name="hidden")
    model = sequential([layers[0], make.Activation("relu"), *layers[1:]])
    found = weights_of(layers, ("h", "m", "o"))
    found[0][1][0] = np.ascontiguousarray(drawn("hk", (12, 10)).T)
    return model, found


MODELS = {
    "renamed": lambda: dense(sequential, chain(("fc1", "fc2", "logits"))),
    "automatic": lambda: dense(sequential, chain(None)),
    "functional": lambda: dense(functional, chain(None)),
    "nested": lambda: dense(nested, chain(None)),
    "subclassed": lambda: dense(subclassed, chain(None)),
    "wider": lambda: dense(sequential, chain(middle=9)),
    "inserted": inserted,
    "turned": turned,
    "towers": lambda: towers(mirrored=False),
    "mirrored": lambda: towers(mirrored=True),
    "inputs": lambda: inputs(swapped=False),
    "swapped": lambda: inputs(swapped=True),
    "heads": lambda: heads(fused=False),
    "fused": lambda: heads(fused=True),
    "asked": asked,
    "joined": joined,
    "joined-otherwise": lambda: joined(mirrored=True),
    "joined-moved": lambda: joined(moved=True),
    "normalised": normalised,
    "normalised-flat": lambda: normalised(flat=True),
    "gru": lambda: recurrent(reset_after=False),
    "gru-after": lambda: recurrent(reset_after=True),
}


def data(variant):
    generator = np.random.RandomState(7)
    shape = (5, 3) if variant.startswith("gru") else (12,)
    x = generator.randn(ROWS, *shape)
    x, y = x.astype("float32"), generator.randint(0, 3, ROWS)
    if variant == "dropped":
        kept = np.r_[0 : 3 * BATCH, 4 * BATCH : ROWS]
        x, y = x[kept], y[kept]
    elif variant == "corrupted":
        x[3 * BATCH + 5] = 0
    elif variant == "one-ulp":
        x[3 * BATCH + 5, 2] = np.nextafter(x[3 * BATCH + 5, 2], np.float32(9))
    elif variant == "speck":
        x[3 * BATCH + 5, 2] += np.float32(2e-6) * np.abs(x).max()
    elif variant.startswith("half-large"):
        # So large that the gradient of a scaled loss may not be finite in float16.
        x[:BATCH] *= 1600
    elif variant == "prepared":
        # The same samples, by way of another computation.
        x = (x * np.float32(3.7) + np.float32(0.3) - np.float32(0.3)) / np.float32(3.7)
    return x, y


def optimizer(variant):
    if "adam" in variant:
        return keras.optimizers.Adam(0.005)
    if variant == "half-scaled" and hasattr(keras.optimizers, "LossScaleOptimizer"):
        inside = keras.optimizers.SGD(0.05, momentum=0.9)
        return keras.optimizers.LossScaleOptimizer(inside, initial_scale=2.0**24)
    return keras.optimizers.SGD(0.05, momentum=0.0 if variant.endswith("plain") else 0.9)


def compute_in(policy):
    """Sets the precision policy of what is built from here on; Keras 2.3 has none."""
    mixed = getattr(keras, "mixed_precision", None)
    if hasattr(mixed, "set_dtype_policy"):
        mixed.set_dtype_policy(policy)
    elif hasattr(mixed, "set_global_policy"):
        mixed.set_global_policy(policy)
    elif mixed is not None:
        mixed.experimental.set_policy(policy)


def train(out, variant):
    start()
    compute_in("mixed_float16" if variant.startswith("half") else "float32")
    plain = variant.split("-plain")[0]
    late = plain in ("late", "restarted") or plain.endswith("-late")
    elsewhere = plain.startswith("elsewhere")
    plain = plain.split("-late")[0]
    build = MODELS.get(plain, lambda: dense(sequential, chain()))
    model, weights = build()
    loss = "sparse_categorical_crossentropy"
    model.compile(optimizer=optimizer(variant), loss=loss, metrics=["accuracy"])
    for layer, values in weights:
        layer.set_weights([value + 0.01 for value in values] if elsewhere else values)
    x, y = data(plain)
    fed = x
    if plain in ("inputs", "swapped"):
        fed = [x[:, :6], x[:, 6:]]
        fed = fed[::-1] if plain == "swapped" else fed

    def fit(callbacks, rows=slice(None), epochs=1, **options):
        chosen = [one[rows] for one in fed] if isinstance(fed, list) else fed[rows]
        batch = {"batch_size": BATCH // 2 if plain == "rebatched" else BATCH}
        model.fit(
            chosen, y[rows], shuffle=False, verbose=0, callbacks=callbacks, epochs=epochs,
            **batch, **options,
        )  # fmt: skip

    callback = TraceCallback(Path(out, variant + ".zarr"))
    if plain == "shuffled":
        fit([callback])
        fit([callback], rows=np.random.RandomState(3).permutation(ROWS))
    elif plain == "rows":
        # The rows of each batch the other way round, from the second epoch on.
        order = np.arange(ROWS)
        for first in range(0, ROWS, BATCH):
            order[first : first + BATCH] = order[first : first + BATCH][::-1].copy()
        fit([callback])
        fit([callback], rows=order)
    elif late:
        fit([])
        if plain == "restarted":
            model.compile(optimizer=optimizer(variant), loss=loss, metrics=["accuracy"])
        fit([callback])
    else:
        fit([callback], epochs=3 if plain == "longer" else 2)


if __name__ == "__main__":
    for variant in sys.argv[2:]:
        train(sys.argv[1], variant)
