"""Copies of traced JAX values whose reading changes no fusion of the step.

XLA joins the elementwise operations at the end of a gradient with the update that reads them, and
keeps what lies between in registers. A gradient that leaves the step has to be stored, and the
joined operations round otherwise. So what leaves the step is a second computation of the gradient's
elementwise tail, from values behind a barrier that keeps it from being merged with the first.
"""

import sys
from typing import Any, Dict, Tuple

ELEMENTWISE = frozenset(
    [
        "abs",
        "add",
        "add_any",
        "broadcast_in_dim",
        "convert_element_type",
        "copy",
        "div",
        "exp",
        "integer_pow",
        "log",
        "logistic",
        "max",
        "min",
        "mul",
        "neg",
        "pow",
        "reshape",
        "rsqrt",
        "select_n",
        "sign",
        "sqrt",
        "square",
        "squeeze",
        "sub",
        "tanh",
        "transpose",
    ]
)
MAX_OPERATIONS = 64
"""A tail longer than this is copied no further: every copied operation is computed twice."""


def private_copy(value: Any, copied: Dict[Any, Tuple[Any, ...]]) -> Any:
    """Computes a traced value a second time, from where no fusion reaches.

    Args:
        value: a tracer of `jax.jit`, or an array.
        copied: equation -> what its copy made; shared by the tensors of one step.

    Returns:
        A value equal to it; the value itself where it is no tracer.
    """
    equation = getattr(value, "parent", None)
    if not hasattr(value, "_trace"):
        return value
    name = getattr(getattr(equation, "primitive", None), "name", None)
    if name not in ELEMENTWISE or len(copied) >= MAX_OPERATIONS:
        return sys.modules["jax"].lax.optimization_barrier(value)
    if id(equation) not in copied:
        inputs = [private_copy(tracer, copied) for tracer in equation.in_tracers]
        made = equation.primitive.bind(*inputs, **equation.params)
        copied[id(equation)] = tuple(made) if equation.primitive.multiple_results else (made,)
    return copied[id(equation)][equation.outvars.index(value.val)]
