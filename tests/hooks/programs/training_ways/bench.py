"""Where ways of training are registered and tried: workplaces, and what comes of each way."""

import json
import shutil
import traceback
from pathlib import Path

import numpy as np
from training_kit import EVERYWHERE, Kit, hide_output, same_weights, traces_of_us, witness_of


def way(*flavours):
    """Marks a function as a way of training; it exists in these flavours, or in all."""

    def mark(function):
        function.flavours = flavours or EVERYWHERE
        return function

    return mark


def train(modules, bench_of, flavour, folder, *names):
    """Trains in every way of a flavour, or in those named, and prints what came of it.

    `modules` hold the ways, in the order in which they are trained; `bench_of` is the class of the
    workplace that each gets.
    """
    kit = Kit(flavour)
    answers = {}
    ways = [pair for module in modules for pair in vars(module).items()]
    for name, function in ways:
        if flavour not in getattr(function, "flavours", ()) or (names and name not in names):
            continue
        bench = bench_of(kit, Path(folder), name)
        shutil.rmtree(str(bench.path), ignore_errors=True)
        kit.fresh()
        try:
            with hide_output():
                found = function(bench)
            bench.save()
            answers[name] = {**bench.facts, **(found or {})}
        except Exception:  # noqa: BLE001 - the test of this way tells it, the others go on
            answers[name] = {"error": traceback.format_exc()}
    print(json.dumps(answers))


class Bench:
    """One way's workplace."""

    def __init__(self, kit, folder, name):
        self.kit = kit
        self.folder = folder
        self.path = folder / (name + ".zarr")
        self.arrays = {}
        self.facts = {}
        self._name = name

    def note(self, **arrays):
        self.arrays.update(arrays)

    def save(self):
        np.savez(str(self.folder / (self._name + ".npz")), **self.arrays)


class WitnessedBench(Bench):
    """The workplace of a way that trains with a witness and a recorder among the callbacks."""

    def __init__(self, kit, folder, name):
        super().__init__(kit, folder, name)
        self.witness = witness_of(kit)

    def trace(self, path=None, **options):
        from tracediff_hooks import TraceCallback

        return TraceCallback(path or self.path, **options)

    def beside(self, name):
        """A workplace for something else that has to happen in the same place."""
        return WitnessedBench(self.kit, self.folder, name)

    def callbacks(self, *others):
        return [self.witness, self.trace(), *others]

    def save(self):
        self.note(**self.witness.facts())
        super().save()


class RepeatedBench(Bench):
    """The workplace of a way that trains once without the recorder and once with it."""

    def twice(self, train, witnessed=True, **options):
        """Runs ``train(callbacks)`` without the recorder and with it, from the same beginning."""
        from tracediff_hooks import TraceCallback

        self.kit.fresh()
        plain = train([witness_of(self.kit)] if witnessed else []).get_weights()
        self.kit.fresh()
        witness = witness_of(self.kit)
        recorder = TraceCallback(self.path, **options)
        model = train([witness, recorder] if witnessed else [recorder])
        self.note(**witness.facts())
        self._compare(plain, model)
        return model

    def twice_in_a_block(self, make, loop, **options):
        """Runs ``loop(model, recording)`` without a recording and inside one."""
        import tracediff_hooks

        self.kit.fresh()
        model = make()
        loop(model, None)
        plain = model.get_weights()
        self.kit.fresh()
        model = make()
        with tracediff_hooks.record(model, self.path, **options) as recording:
            loop(model, recording)
        self._compare(plain, model)
        return model

    def _compare(self, plain, model):
        recorded = model.get_weights()
        self.facts["same_weights"] = same_weights(plain, recorded)
        self.facts["apart"] = max(float(np.abs(a - b).max()) for a, b in zip(plain, recorded))
        self.facts["left_behind"] = traces_of_us(model)
        self.note(**{f"final/{place}": weight for place, weight in enumerate(recorded)})
