"""Trains several models, records one of them by itself, and ends with status 3.

`python -m recorded_package.several FLAVOUR FOLDER`, from the folder above.
"""

# Ahead of every framework, as somebody may sort it.
import sys
from pathlib import Path

from training_kit import Kit, hide_output, problem

from tracediff_hooks import TraceCallback

flavour, folder = sys.argv[1:]
kit = Kit(flavour)
kit.fresh()
x, y = problem()
with hide_output():
    one, other, own = kit.mlp(), kit.mlp(), kit.mlp()
    one.fit(x, y, batch_size=8, verbose=0)
    one.fit(x, y, batch_size=8, epochs=2, verbose=0)
    other.fit(x, y, batch_size=8, verbose=0)
    own.fit(x, y, batch_size=11, verbose=0, callbacks=[TraceCallback(Path(folder) / "own.zarr")])
    batches = ((x[:8], y[:8]) for _ in range(100))
    if not kit.keras3:
        other.fit_generator(batches, steps_per_epoch=4, verbose=0)
    else:
        other.fit(batches, steps_per_epoch=4, verbose=0)
print(__name__, sys.path[0])
sys.exit(3)
