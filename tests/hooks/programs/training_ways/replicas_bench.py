"""The workplace of ways that train on two replicas, and what these share."""

import shutil

from recorded import Recorded
from training_kit import problem, said_by_us

from training_ways.bench import RepeatedBench


class ReplicasBench(RepeatedBench):
    """A workplace with a strategy of several replicas.

    One for the whole process: a second strategy would use the keys of the first one's collective
    operations again, which TensorFlow since 2.5 refuses for other shapes.
    """

    replicas = 2
    strategy = None

    def __init__(self, kit, folder, name):
        super().__init__(kit, folder, name)
        if ReplicasBench.strategy is None:
            # Only a process that has computed nothing may be given a second device.
            config = kit.tf.config.experimental
            several = [config.VirtualDeviceConfiguration()] * self.replicas
            config.set_virtual_device_configuration(config.list_physical_devices("CPU")[0], several)
            devices = [f"/cpu:{number}" for number in range(self.replicas)]
            ReplicasBench.strategy = kit.tf.distribute.MirroredStrategy(devices)
        shutil.rmtree(str(self.beside("one")), ignore_errors=True)

    def make(self, model):
        with self.strategy.scope():
            return model()

    def thrice(self, model, train, *, alone=True, **options):
        """Trains plainly, recorded, and recorded on one device; `train(model, callbacks)`."""
        from tracediff_hooks import TraceCallback

        def on_several(callbacks):
            made = self.make(model)
            train(made, callbacks)
            return made

        self.facts["said"] = said_by_us(lambda: self.twice(on_several, **options))
        self.facts["left_on_strategy"] = "run" in vars(self.strategy)
        if alone:
            self.kit.fresh()
            made = model()
            train(made, [TraceCallback(self.beside("one"), **options)])
            self.note(**{f"one/{place}": w for place, w in enumerate(made.get_weights())})

    def beside(self, name):
        return self.path.with_name(self.path.stem + f"-{name}.zarr")


def redo(bench, optimizer):
    """Applies the recorded gradients with the framework's own optimizer, on one device.

    Notes what it makes of the recorded initial weights, with its slots, after each step.
    """
    run = Recorded(bench.path)
    names = [f"{layer}/{weight}" for layer in ("hidden", "out") for weight in ("kernel", "bias")]
    variable = bench.kit.keras.Variable if bench.kit.keras3 else bench.kit.tf.Variable
    weights = [variable(run.state(0, "weight", name)) for name in names]
    for step in range(run.steps):
        gradients = [run.observed(step, "applied_gradient", name) for name in names]
        tensors = [bench.kit.tf.constant(gradient) for gradient in gradients]
        optimizer.apply_gradients(list(zip(tensors, weights)))
        bench.note(**{f"redone/{step}/{p}": w.numpy() for p, w in enumerate(weights)})


def rows(count, **options):
    """Trains on so many rows in batches of eight, in order."""
    x, y = problem(count)

    def train(model, callbacks):
        options_ = {"batch_size": 8, "epochs": 2, "shuffle": False, "verbose": 0, **options}
        model.fit(x, y, callbacks=callbacks, **options_)

    return train
