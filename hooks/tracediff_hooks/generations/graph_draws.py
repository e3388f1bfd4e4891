"""Finds the operations of a graph of TensorFlow 2 that draw random numbers."""

from typing import Any, Iterator

NEAR = 16
"""How many operations may lie between the seed that a graph gives and the operation it is for."""


def draws(graph: Any) -> Iterator[Any]:
    """The operations that draw from a stream of their own, which a seed begins.

    Those without any seed are left out: they draw something else in every run.
    """
    for operation in graph.get_operations():
        if "seed2" in operation.node_def.attr and (
            operation.get_attr("seed") or operation.get_attr("seed2")
        ):
            yield operation


def seeded_by_place(operation: Any) -> bool:
    """Whether the seed is that which a graph gives: the number of its operations so far.

    As `get_seed` does it (tensorflow/python/framework/random_seed.py).
    """
    return 0 <= operation._id - int(operation.get_attr("seed2")) <= NEAR
