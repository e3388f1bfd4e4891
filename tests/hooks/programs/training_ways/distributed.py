"""`keras.distribution` of Keras 3 on JAX: batches, or weights, spread over two devices."""

from training_kit import said_by_us

from training_ways.bench import way
from training_ways.replicas_bench import rows


def _spread(bench, distribution, model):
    from tracediff_hooks import TraceCallback

    set_distribution = bench.kit.keras.distribution.set_distribution
    fit = rows(22)

    def on_two(callbacks):
        # Clearing a session, as every way begins, forgets it.
        set_distribution(distribution)
        made = model()
        bench.facts["devices"] = len(made.trainable_variables[0].value.sharding.device_set)
        fit(made, callbacks)
        return made

    bench.facts["said"] = said_by_us(lambda: bench.twice(on_two, activations=True))
    set_distribution(None)
    bench.kit.fresh()
    one = bench.path.with_name(bench.path.stem + "-one.zarr")
    fit(model(), [TraceCallback(one, activations=True)])


@way("keras3-jax")
def data_parallel(bench):
    parallel = bench.kit.keras.distribution.DataParallel()
    _spread(bench, parallel, bench.kit.mlp)


@way("keras3-jax")
def data_parallel_adam(bench):
    kit = bench.kit
    parallel = kit.keras.distribution.DataParallel()
    rule = kit.keras.optimizers.Adam
    _spread(bench, parallel, lambda: kit.mlp(rule(0.01, clipnorm=0.125)))


@way("keras3-jax")
def model_parallel(bench):
    distribution = bench.kit.keras.distribution
    mesh = distribution.DeviceMesh((1, 2), ["batch", "model"], distribution.list_devices())
    layout = distribution.LayoutMap(mesh)
    layout["hidden/kernel"] = (None, "model")
    layout["hidden/bias"] = ("model",)
    parallel = distribution.ModelParallel(layout_map=layout, batch_dim_name="batch")
    _spread(bench, parallel, bench.kit.mlp)
