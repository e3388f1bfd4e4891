"""Ways in which the recorder comes late: after the model was trained."""

import sys

from training_kit import problem

from training_ways.bench import way


@way()
def trained_before_the_import(bench):
    assert "tracediff_hooks" not in sys.modules
    x, y = problem()
    early, later = bench.kit.mlp(), bench.kit.mlp()
    early.fit(x, y, batch_size=8, verbose=0)
    import tracediff_hooks  # noqa: F401

    later.fit(x, y, batch_size=8, verbose=0)
    early.fit(x, y, batch_size=8, shuffle=False, verbose=0, callbacks=bench.callbacks())
    bench.note(x=x, y=y)
    other = bench.beside("trained_before_the_callback")
    later.fit(x, y, batch_size=8, shuffle=False, verbose=0, callbacks=other.callbacks())
    other.note(x=x, y=y)
    other.save()
