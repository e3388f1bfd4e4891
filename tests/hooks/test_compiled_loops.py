"""Steps that a script compiles itself, and how TensorFlow takes to the recorder in them."""

import tracediff

COMPILED = """
import tensorflow as tf, tracediff_hooks
model = tf.keras.Sequential([tf.keras.layers.Dense(3, input_shape=(2,))])
optimizer = tf.keras.optimizers.SGD(0.1)
@tf.function
def step(x, y):
    with tf.GradientTape() as tape:
        loss = tf.reduce_mean((model(x) - y) ** 2)
    gradients = tape.gradient(loss, model.trainable_variables)
    optimizer.apply_gradients(zip(gradients, model.trainable_variables))
    return loss
with tracediff_hooks.record(model, "a.zarr") as recording:
    recording.step(step, tf.ones((4, 2)), tf.ones((4, 3)))
"""


def test_autograph_is_given_nothing_of_the_recorder_to_convert(tf23, tmp_path):
    # Given a script whose compiled step is called through the recording, when it runs
    (tmp_path / "script.py").write_text(COMPILED)
    done = tf23.run("script.py", cwd=tmp_path)
    # Then TensorFlow has nothing to say of functions that are not the script's
    assert "AutoGraph" not in done.stderr
    assert tracediff.open_trace(tmp_path / "a.zarr").runs[0].steps == 1


MANY = """
from tracediff_hooks.generations import hand_written
hand_written.FUNCTIONS = 3
def compiled():
    return tf.function(step.python_function)
def refused(_):
    raise ValueError("no copy of this")
with tracediff_hooks.record(model, "b.zarr") as recording:
    for number in range(5):
        recording.step(compiled(), tf.ones((4, 2)), tf.ones((4, 3)))
    last = compiled()
    last._clone = refused
    for number in range(2):
        recording.step(last, tf.ones((4, 2)), tf.ones((4, 3)))
print("iterations", int(optimizer.iterations))
"""


def test_steps_that_are_compiled_anew_or_cannot_be_copied_are_trained_all_the_same(tf23, tmp_path):
    # Given a script that compiles a function for each step, and one that cannot be recorded
    (tmp_path / "script.py").write_text(COMPILED + MANY)
    # When it runs, then every step is trained,
    done = tf23.run("script.py", cwd=tmp_path)
    assert done.stdout.split() == ["iterations", "8"]
    # those that can be are recorded, and of the others one line is said
    (run,) = tracediff.open_trace(tmp_path / "b.zarr").runs
    assert (run.steps, run.status) == (5, "failed")
    (line,) = [line for line in done.stderr.splitlines() if "no copy of this" in line]
    assert "training goes on" in line
