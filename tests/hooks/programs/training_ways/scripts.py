"""What scripts do with a model around its training: copy it, load it, interrupt it."""

import copy
import pickle

from training_kit import callback_of, fail_loudly, problem, same_weights, traces_of_us

from training_ways.bench import way
from training_ways.loops import fit_of


@way()
def copied_and_pickled(bench):
    x, y = problem()
    copies = []
    kit = bench.kit

    def attempt(make, model):
        """How it went, and whether the copy has the weights and trains."""
        try:
            twin = make(model)
        except Exception as error:  # noqa: BLE001 - some generations cannot, with or without us
            return type(error).__name__
        equal = same_weights(twin.get_weights(), model.get_weights())
        twin.fit(x, y, batch_size=22, verbose=0)
        return [equal, not same_weights(twin.get_weights(), model.get_weights())]

    def train(callbacks):
        seen = []
        copies.append(seen)
        makers = [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))]

        def make_copies(model, epoch, logs):
            if epoch == 0:
                seen.extend(attempt(make, model) for make in makers)

        act = callback_of(kit, on_epoch_end=make_copies)
        return fit_of(bench)([*callbacks, act], kit.mlp())

    bench.twice(train)
    bench.facts["copies_plain"], bench.facts["copies_recorded"] = copies


@way()
def loaded_model_trains_on(bench):
    kit = bench.kit
    x, y = problem()
    stored = str(bench.folder / ("loaded_model.keras" if kit.keras3 else "loaded.h5"))
    # Adam of Keras 2.3 races with its own step counter.
    first = kit.mlp(kit.sgd() if kit.flavour == "keras2.3" else kit.adam())
    first.fit(x, y, batch_size=8, shuffle=False, verbose=0)
    first.save(stored)

    def train(callbacks):
        return fit_of(bench)(callbacks, kit.keras.models.load_model(stored))

    bench.twice(train)


@way()
def interrupted(bench):
    from tracediff_hooks import TraceCallback

    kit = bench.kit
    model = kit.mlp()
    error = KeyboardInterrupt()
    steps = []

    def stop(model, batch, logs):
        steps.append(batch)
        if len(steps) == 4:
            raise error

    act = callback_of(kit, on_train_batch_end=stop)
    trace = TraceCallback(bench.path)
    caught = fail_loudly(lambda: fit_of(bench)([trace, act], model))
    bench.facts["same_error"] = caught is error
    x, y = problem()
    before = model.get_weights()
    model.fit(x, y, batch_size=8, verbose=0)
    bench.facts["later_fit_trained"] = not same_weights(before, model.get_weights())
    bench.facts["left_behind"] = traces_of_us(model)
