"""Reads variables by a `Reader`, changes them in every way there is, and writes what was seen.

`python reading.py FOLDER`. The variables lie on two devices; one of them is an embedding, whose
rows are changed in place; one was made while a function was traced; one is read in its own way.
"""

import sys
from pathlib import Path

import numpy as np
import tensorflow as tf

from tracediff_hooks.generations import reading

ROUNDS = 6
singly = []
"""How many variables were read one by one, in each round."""


def configured():
    """Two devices."""
    config = tf.config.experimental
    (cpu,) = config.list_physical_devices("CPU")
    config.set_virtual_device_configuration(cpu, [config.VirtualDeviceConfiguration()] * 2)


def variables():
    """What is read: two dense ones on two devices, an embedding, a counter, a traced one."""
    with tf.device("CPU:0"):
        dense = tf.Variable(tf.random.normal((64, 64)))
        table = tf.Variable(tf.random.normal((50, 4)))
        counter = tf.Variable(0, dtype=tf.int64)
    with tf.device("CPU:1"):
        elsewhere = tf.Variable(tf.random.normal((32, 8)))
    made = []

    @tf.function
    def makes():
        if not made:
            made.append(tf.Variable(tf.ones((16,))))
        return made[0] + 1

    makes()
    return [dense, elsewhere, table, counter, made[0]]


@tf.function
def update(dense, elsewhere, table, counter, made):
    """A step: dense updates, and one of two rows."""
    dense.assign_add(tf.ones_like(dense))
    elsewhere.assign_sub(tf.ones_like(elsewhere))
    table.scatter_add(tf.IndexedSlices(tf.ones((2, 4)), [1, 7]))
    counter.assign_add(1)
    made.assign(made * 2)


class Odd:
    """Stands for a variable of a class that has its own way of being read."""

    def __init__(self, variable):
        self.variable = variable

    def value(self):
        """The value."""
        return self.variable.value()


def rounds(folder, name, listed, changing):
    """Reads before and after each update; keeps what was read beside a copy made at once."""
    read = reading.Reader()
    found, held = {}, []
    for number in range(ROUNDS):
        singly.append(0)
        values = read(listed)
        for place, value in enumerate(values):
            own = getattr(listed[place], "variable", listed[place])
            found[f"{number}/{place}/read"] = np.array(value)
            found[f"{number}/{place}/is"] = np.array(own.numpy())
        held.append(values)
        update(*changing)
    for number, values in enumerate(held):
        for place, value in enumerate(values):
            found[f"{number}/{place}/held"] = value
    np.savez(str(folder / (name + ".npz")), **found)


def main():
    """Reads a list of plain variables, one with another among them, and one that changes."""
    folder = Path(sys.argv[1])
    configured()
    plainly = reading.view

    def view(variable):
        singly[-1] += 1
        return plainly(variable)

    reading.view = view
    listed = variables()
    rounds(folder, "plain", listed, listed)
    np.save(str(folder / "plain_singly.npy"), singly)
    del singly[:]
    rounds(folder, "odd", [listed[0], Odd(listed[1]), *listed[2:]], listed)
    np.save(str(folder / "odd_singly.npy"), singly)
    # Another list of as many variables, in another order: nothing of the first is taken for it.
    singly.append(0)
    read = reading.Reader()
    for _ in range(3):
        read(listed)
    turned = listed[::-1]
    same = [np.array_equal(one, v.numpy()) for one, v in zip(read(turned), turned)]
    np.save(str(folder / "turned.npy"), same)


main()
