"""A layer class keeps its weights in one layout on every stack, so that digests are canonical.

`programs/weight_layouts.py` fills layers with the same numbers on each stack: where the shapes and
what is put out are the same, so is the place of every number.
"""

from __future__ import annotations

import json

import numpy as np
import pytest
from support.stacks import flavours, stack_or_skip
from support.ways import ALL, PROGRAMS

REFERENCE = "keras2.3"
EXCEPTIONS = {"gru"}
"""Layers whose defaults are other formulas on other stacks."""


def answers_of(flavour):
    done = stack_or_skip(flavour).run(PROGRAMS / "weight_layouts.py", flavour)
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def reference():
    return answers_of(REFERENCE)


@pytest.mark.parametrize("flavour", flavours(*(name for name in ALL if name != REFERENCE)))
def test_equal_numbers_at_equal_places_make_equal_layers(reference, flavour):
    # Given layers of every kind with the same numbers on two stacks
    answers = answers_of(flavour)
    assert len(answers) == len(reference) == 15
    for name, here in answers.items():
        if name in EXCEPTIONS:
            continue
        # Then their weights have the same shapes, and they put out the same
        assert here["shapes"] == reference[name]["shapes"], name
        np.testing.assert_allclose(
            here["out"], reference[name]["out"], rtol=1e-4, atol=1e-5, err_msg=name
        )
    # but for the default of GRU, which is another formula, with another bias
    bias = [12] if flavour == "tf1.15" else [2, 12]
    assert (reference["gru"]["shapes"][2], answers["gru"]["shapes"][2]) == ([12], bias)
