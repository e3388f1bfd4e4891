"""Trains in a way that cannot be recorded, with and without the recorder.

`python refused_ways.py FLAVOUR WAY FOLDER` prints what the recorder said, whether the model
trained, and whether both trainings ended with the same weights. Each way wants a process of its
own.
"""

import json
import os
import sys
from pathlib import Path

from training_kit import Kit, problem, said_by_us, same_weights, traces_of_us


def eager_execution(kit):
    return kit.mlp()


def loss_scaling(kit):
    mixed = kit.keras.mixed_precision.experimental
    return kit.mlp(mixed.LossScaleOptimizer(kit.sgd(), "dynamic"))


def one_device(kit):
    with kit.tf.distribute.OneDeviceStrategy("/cpu:0").scope():
        return kit.mlp()


def two_devices(kit):
    with kit.tf.distribute.MirroredStrategy(["/cpu:0", "/cpu:1"]).scope():
        return kit.mlp()


def torch_compile(kit):
    return kit.mlp(jit_compile=True)


WAYS = {
    way.__name__: way
    for way in (eager_execution, loss_scaling, one_device, two_devices, torch_compile)
}


def train(kit, make, trace=None):
    """Weights at the start and at the end, and what of the recorder is left on the model."""
    from tracediff_hooks import TraceCallback

    kit.fresh()
    if kit.graph:
        two = kit.tf.compat.v1.ConfigProto(device_count={"CPU": 2})
        kit.keras.backend.set_session(kit.tf.compat.v1.Session(config=two))
    model = make(kit)
    x, y = problem(24)
    start = model.get_weights()
    callbacks = [TraceCallback(trace)] if trace else []
    for _ in range(2):
        model.fit(x, y, batch_size=8, shuffle=False, verbose=0, callbacks=callbacks)
    return start, model.get_weights(), traces_of_us(model)


def main(flavour, way, folder):
    # What would be compiled is of no interest here, and compiling it takes minutes.
    os.environ["TORCH_COMPILE_DISABLE"] = "1"
    kit = Kit(flavour)
    if way == "eager_execution":
        kit.tf.compat.v1.enable_eager_execution()
    start, plain, _ = train(kit, WAYS[way])
    recorded = []
    said = said_by_us(lambda: recorded.extend(train(kit, WAYS[way], Path(folder) / "a.zarr")))
    facts = {
        "said": said,
        "trained": not same_weights(start, plain),
        "same_weights": same_weights(recorded[1], plain),
        "left_behind": recorded[2],
    }
    print(json.dumps(facts))


if __name__ == "__main__":
    main(*sys.argv[1:])
