"""Trains nothing itself and starts processes that do: a Python of its own, and a forked one.

`python starting.py FLAVOUR FOLDER`: each child saves the weights that it ends with.
"""

import json
import multiprocessing
import subprocess
import sys
from pathlib import Path


def train(flavour, target):
    import numpy as np
    from training_kit import Kit, hide_output, problem

    class Trainer:
        """`fit` is called in a method, as scripts have it."""

        def __init__(self):
            kit = Kit(flavour)
            kit.fresh()
            self.model = kit.mlp()

        def run(self):
            x, y = problem()
            self.model.fit(x, y, batch_size=8, shuffle=False, verbose=0)
            return self.model.get_weights()

    with hide_output():
        np.savez(target, *Trainer().run())


def main(flavour, folder, *child):
    if child:
        train(flavour, child[0])
        print(json.dumps([sys.path[0], [p for p in sys.path if "in_child" in p]]))
        return
    command = [sys.executable, __file__, flavour, folder, str(Path(folder) / "started.npz")]
    print(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout.decode())
    forked = multiprocessing.get_context("fork").Process(
        target=train, args=(flavour, str(Path(folder) / "forked.npz"))
    )
    forked.start()
    forked.join()
    sys.exit(forked.exitcode)


if __name__ == "__main__":
    main(*sys.argv[1:])
