"""Finds the operations of a graph of TensorFlow 2 that draw random numbers."""

from typing import Any


def draws(graph: Any) -> bool:
    """Whether operations of a graph draw from streams of their own, which seeds begin.

    Those without any seed do not count: they draw something else in every run.
    """
    return any(
        "seed2" in operation.node_def.attr
        and (operation.get_attr("seed") or operation.get_attr("seed2"))
        for operation in graph.get_operations()
    )
