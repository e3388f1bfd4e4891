"""The models of the bench, the same on every stack; `settings` changes layers one by one."""

import numpy as np

INPUTS = {
    "mlp": [(12,)],
    "bnmlp": [(9,)],
    "deep": [(14,)],
    "regression": [(7,)],
    "cnn": [(8, 8, 3)],
    "lstm": [(6, 5)],
    "gru": [(5, 4)],
    "embedding": [(6,)],
    "two": [(6,), (4,)],
    "seqcnn": [(12, 3)],
    "residual": [(10,)],
    "both ways": [(7,)],
}
VOCABULARY = 30
CLASSES = 3
REGRESSIONS = ("regression",)


def build(keras, kind, settings):
    """Builds a model.

    Args:
        keras: The module of this name, or tensorflow.keras.
        kind: A key of `INPUTS`.
        settings: By layer, arguments that replace or join its own; `null` takes one away. The
            key "class" names another class, "after" a layer to be put behind it.
    """
    made = _Maker(keras, settings)
    if kind == "two":
        left = keras.layers.Input(shape=(6,), name="x_left")
        right = keras.layers.Input(shape=(4,), name="x_right")
        joined = made("Concatenate", "join")(
            [
                made("Dense", "left", units=5, activation="relu")(left),
                made("Dense", "right", units=4, activation="tanh")(right),
            ]
        )
        out = made("Dense", "out", units=CLASSES, activation="softmax")(joined)
        return keras.models.Model(inputs=[left, right], outputs=out)
    if kind == "residual":
        x = keras.layers.Input(shape=(10,), name="x")
        wide = made("Dense", "enter", units=8, activation="relu")(x)
        norm = made("LayerNormalization", "ln")(made("Dense", "inner", units=8)(wide))
        out = made("Dense", "out", units=CLASSES, activation="softmax")(
            made("Add", "sum")([wide, norm])
        )
        return keras.models.Model(inputs=x, outputs=out)
    if kind == "both ways":
        x = keras.layers.Input(shape=(7,), name="x")
        known = made("Embedding", "table", input_dim=VOCABULARY, output_dim=5)(x)
        there = made("LSTM", "there", units=4)
        joined = keras.layers.Bidirectional(there, name="both")(known)
        out = made("Dense", "out", units=CLASSES, activation="softmax")(joined)
        return keras.models.Model(inputs=x, outputs=out)
    layers = []
    for cls, name, arguments in _STACKS[kind]:
        layers.append(made(cls, name, **arguments))
        for extra_cls, extra_name, extra in settings.get(name, {}).get("after", []):
            layers.append(made(extra_cls, extra_name, **extra))
    model = keras.models.Sequential(layers)
    if kind == "embedding":
        model.build((None, 6))
    return model


_DENSE_OUT = ("Dense", "out", {"units": CLASSES, "activation": "softmax"})
_STACKS = {
    "mlp": [
        ("Dense", "hidden", {"units": 10, "activation": "relu", "input_shape": (12,)}),
        ("Dense", "middle", {"units": 8, "activation": "tanh"}),
        _DENSE_OUT,
    ],
    "bnmlp": [
        ("Dense", "first", {"units": 11, "input_shape": (9,)}),
        ("BatchNormalization", "norm", {"momentum": 0.99}),
        ("Activation", "bend", {"activation": "relu"}),
        ("Dropout", "drop", {"rate": 0.0}),
        _DENSE_OUT,
    ],
    "deep": [
        ("Dense", "d1", {"units": 12, "activation": "tanh", "input_shape": (14,)}),
        ("Dense", "d2", {"units": 11, "activation": "relu"}),
        ("Dense", "d3", {"units": 9, "activation": "tanh"}),
        ("Dense", "d4", {"units": 7, "activation": "relu"}),
        _DENSE_OUT,
    ],
    "regression": [
        ("Dense", "first", {"units": 16, "activation": "tanh", "input_shape": (7,)}),
        ("Dense", "value", {"units": 1}),
    ],
    "cnn": [
        ("Conv2D", "conv", {"filters": 6, "kernel_size": 3, "input_shape": (8, 8, 3)}),
        ("BatchNormalization", "bn", {"momentum": 0.99}),
        ("Activation", "act", {"activation": "relu"}),
        ("MaxPooling2D", "pool", {"pool_size": 2}),
        ("Flatten", "flat", {}),
        ("Dropout", "drop", {"rate": 0.0}),
        _DENSE_OUT,
    ],
    "seqcnn": [
        ("Conv1D", "window", {"filters": 5, "kernel_size": 3, "input_shape": (12, 3)}),
        ("LeakyReLU", "leak", {}),
        ("GlobalMaxPooling1D", "top", {}),
        ("Dense", "mid", {"units": 6, "activation": "relu"}),
        _DENSE_OUT,
    ],
    "lstm": [
        ("LSTM", "rnn", {"units": 5, "input_shape": (6, 5), "recurrent_activation": "sigmoid"}),
        _DENSE_OUT,
    ],
    "gru": [
        (
            "GRU",
            "rnn",
            {
                "units": 6,
                "input_shape": (5, 4),
                "recurrent_activation": "sigmoid",
                "reset_after": False,
            },
        ),
        _DENSE_OUT,
    ],
    "embedding": [
        ("Embedding", "table", {"input_dim": VOCABULARY, "output_dim": 4}),
        ("GlobalAveragePooling1D", "mean", {}),
        _DENSE_OUT,
    ],
}


class _Maker:
    """Makes layers with the settings that a run asks for."""

    def __init__(self, keras, settings):
        self.keras = keras
        self.settings = settings

    def __call__(self, cls, name, **arguments):
        changes = dict(self.settings.get(name, {}))
        changes.pop("after", None)
        cls = changes.pop("class", cls)
        arguments.update(changes)
        arguments = {key: value for key, value in arguments.items() if value != "<default>"}
        for key in list(arguments):
            if key.endswith("_regularizer") and isinstance(arguments[key], float):
                arguments[key] = self.keras.regularizers.l2(arguments[key])
            if key.endswith("_constraint") and isinstance(arguments[key], float):
                arguments[key] = self.keras.constraints.max_norm(arguments[key])
            if key.endswith("_initializer") and isinstance(arguments[key], list):
                made, options = arguments[key]
                arguments[key] = getattr(self.keras.initializers, made)(**options)
        if cls in ("GradientTwice", "StopGradient"):
            return self.keras.layers.Lambda(_BACKWARD[cls], name=name)
        return getattr(self.keras.layers, cls)(name=name, **arguments)


def _twice(x):
    """The identity, whose gradient is twice as large."""
    import tensorflow

    @tensorflow.custom_gradient
    def doubled(value):
        return tensorflow.identity(value), lambda upstream: 2.0 * upstream

    return doubled(x)


def _stopped(x):
    """The identity, through which half of the gradient flows."""
    import tensorflow

    return 0.5 * x + tensorflow.stop_gradient(0.5 * x)


_BACKWARD = {"GradientTwice": _twice, "StopGradient": _stopped}


def weights(model, seed, edits):
    """Gives a model weights of numpy's, the same on every stack, then changes some.

    Args:
        model: A built model.
        seed: Of the draw.
        edits: Lists of a kind and its arguments: see the code.
    """
    values = []
    for place, value in enumerate(model.get_weights()):
        # Each weight has a draw of its own, so that one of another shape leaves the others alone.
        generator = np.random.RandomState(1000 * seed + place)
        if value.ndim > 1:
            limit = np.sqrt(6.0 / (value.shape[-1] + np.prod(value.shape[:-1])))
            drawn = generator.uniform(-limit, limit, value.shape)
        else:
            drawn = value + generator.uniform(-0.1, 0.1, value.shape)
        values.append(drawn.astype("float32").astype(value.dtype))
    for kind, index, amount in edits:
        if kind == "add":
            values[index].flat[1] += values[index].dtype.type(amount)
        elif kind == "times":
            values[index] = (values[index] * amount).astype(values[index].dtype)
        elif kind == "fill":
            values[index][:] = amount
    model.set_weights(values)
