"""Ways in which something happens around the steps of `fit`: other fits, compiles, callbacks."""

from training_kit import TF_KERAS, callback_of, problem, same_weights, snapshot

from training_ways.bench import way


@way()
def validated(bench):
    model = bench.kit.mlp()
    x, y = problem()
    other, labels = problem(10, seed=77)
    asked = []

    def ask(model, epoch, logs):
        asked.append(model.evaluate(other, labels, batch_size=5, verbose=0))
        model.predict(other, verbose=0)

    model.fit(
        x,
        y,
        batch_size=8,
        epochs=2,
        shuffle=False,
        verbose=0,
        validation_data=(other, labels),
        callbacks=bench.callbacks(callback_of(bench.kit, on_epoch_end=ask)),
    )
    bench.note(x=x, y=y)
    return {"evaluations": len(asked)}


@way()
def twice(bench):
    model = bench.kit.mlp()
    x, y = problem()
    start = model.get_weights()
    callbacks = bench.callbacks()
    model.fit(x, y, batch_size=8, shuffle=False, verbose=0, callbacks=callbacks)
    model.set_weights(start)
    model.fit(x, y, batch_size=8, epochs=2, shuffle=False, verbose=0, callbacks=callbacks)
    bench.note(x=x, y=y)


@way()
def two_callbacks(bench):
    model = bench.kit.mlp()
    x, y = problem()
    model.fit(x, y, batch_size=8, shuffle=False, verbose=0, callbacks=bench.callbacks())
    first = snapshot(bench.path)
    other = bench.trace(bench.folder / "two_callbacks_second.zarr")
    model.fit(x, y, batch_size=8, shuffle=False, verbose=0, callbacks=[bench.witness, other])
    bench.note(x=x, y=y)
    return {"first_untouched": snapshot(bench.path) == first}


@way()
def two_models(bench):
    callbacks = bench.callbacks()
    x, y = problem()
    one, other = bench.kit.mlp(), bench.kit.mlp()
    for model in (one, other, one):
        model.fit(x, y, batch_size=8, shuffle=False, verbose=0, callbacks=callbacks)
    bench.note(x=x, y=y)


@way()
def recompiled(bench):
    callbacks = bench.callbacks()
    x, y = problem()
    model = bench.kit.mlp()
    model.fit(x, y, batch_size=8, shuffle=False, verbose=0, callbacks=callbacks)
    model.compile(optimizer=bench.kit.adam(0.01), loss="mse")
    model.fit(x, y, batch_size=8, shuffle=False, verbose=0, callbacks=callbacks)
    bench.note(x=x, y=y)


@way()
def recompiled_with_another_rate(bench):
    callbacks = bench.callbacks()
    x, y = problem()
    model = bench.kit.mlp(bench.kit.sgd(0.25))
    model.fit(x, y, batch_size=8, shuffle=False, verbose=0, callbacks=callbacks)
    model.compile(optimizer=bench.kit.sgd(0.125), loss="mse")
    model.fit(x, y, batch_size=8, shuffle=False, verbose=0, callbacks=callbacks)
    bench.note(x=x, y=y)


@way()
def unfrozen(bench):
    callbacks = bench.callbacks()
    x, y = problem()
    model = bench.kit.mlp(frozen=True)
    model.fit(x, y, batch_size=8, shuffle=False, verbose=0, callbacks=callbacks)
    model.get_layer("hidden").trainable = True
    model.compile(optimizer=bench.kit.sgd(), loss="mse")
    model.fit(x, y, batch_size=8, shuffle=False, verbose=0, callbacks=callbacks)
    bench.note(x=x, y=y)


@way()
def meddled_with(bench):
    model = bench.kit.mlp()
    x, y = problem()
    steps = []

    def meddle(model, batch, logs):
        steps.append(batch)
        weights = model.get_weights()
        if len(steps) == 2:
            weights[1] = weights[1] + 1  # hidden/bias, before step 2
            model.set_weights(weights)
        if len(steps) == 4:
            weights[2] = weights[2] * 0  # out/kernel, before step 4
            model.set_weights(weights)
        if len(steps) == 5:
            model.set_weights(weights)  # no other value: no change

    model.fit(
        x,
        y,
        batch_size=8,
        epochs=2,
        shuffle=False,
        verbose=0,
        callbacks=bench.callbacks(callback_of(bench.kit, on_train_batch_end=meddle)),
    )
    bench.note(x=x, y=y)


@way()
def scheduled(bench):
    model = bench.kit.mlp()
    x, y = problem()
    schedule = bench.kit.keras.callbacks.LearningRateScheduler(lambda epoch: 0.25 / 2**epoch)
    seen = []
    rate = callback_of(
        bench.kit,
        on_train_batch_begin=lambda model, batch, logs: seen.append(bench.kit.get_rate(model)),
    )
    model.fit(
        x,
        y,
        batch_size=8,
        epochs=2,
        shuffle=False,
        verbose=0,
        callbacks=bench.callbacks(schedule, rate),
    )
    bench.note(x=x, y=y)
    return {"rates": seen}


@way()
def rate_changed_between_steps(bench):
    model = bench.kit.mlp()
    x, y = problem()

    def halve(model, batch, logs):
        bench.kit.set_rate(model, bench.kit.get_rate(model) / 2)

    model.fit(
        x,
        y,
        batch_size=8,
        epochs=2,
        shuffle=False,
        verbose=0,
        callbacks=bench.callbacks(callback_of(bench.kit, on_train_batch_end=halve)),
    )
    bench.note(x=x, y=y)
    return {"rates": [0.25 / 2**step for step in range(6)]}


@way()
def frozen(bench):
    model = bench.kit.mlp(frozen=True)
    x, y = problem()
    model.fit(x, y, batch_size=8, epochs=2, shuffle=False, verbose=0, callbacks=bench.callbacks())
    bench.note(x=x, y=y)


@way()
def saved(bench):
    kit = bench.kit
    formats = ["h5"]
    if kit.keras3:
        formats = ["keras", "weights.h5"]
    if kit.flavour in TF_KERAS:
        formats = ["h5", "tf"] if kit.flavour == "tf2.3" else ["h5", "tf", "keras"]
    model = kit.mlp()
    x, y = problem()
    checkpoints = [
        kit.keras.callbacks.ModelCheckpoint(
            str(bench.folder / ("during." + kind)), save_weights_only=kind == "weights.h5"
        )
        for kind in formats
    ]
    model.fit(
        x,
        y,
        batch_size=8,
        epochs=2,
        shuffle=False,
        verbose=0,
        callbacks=bench.callbacks(*checkpoints),
    )
    bench.note(x=x, y=y)
    equal = {}
    for kind in formats:
        after = str(bench.folder / ("after." + kind))
        if kind == "weights.h5":
            model.save_weights(after)
        else:
            model.save(after)
        for name in ("during." + kind, "after." + kind):
            path = str(bench.folder / name)
            if kind == "weights.h5":
                loaded = kit.mlp()
                loaded.load_weights(path)
            else:
                loaded = kit.keras.models.load_model(path)
            equal[name] = same_weights(loaded.get_weights(), model.get_weights())
    return {"equal": equal}
