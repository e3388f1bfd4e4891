"""Copies of graph tensors whose reading changes no optimisation of the graph.

Grappler's arithmetic optimiser rewrites a chain of elementwise operations only where the values
between have one reader. A gradient that leaves the step gets a second one, the rewriting stops
short, and the update rounds otherwise: seen with the scale of a batch normalisation under Nesterov
momentum in Keras 3. So what leaves the step is not the gradient itself but a second computation of
its elementwise tail, down to operations that are not rewritten. A marking attribute keeps
common-subexpression elimination from merging the two again.
"""

from typing import Any, Dict

ELEMENTWISE = frozenset(
    [
        "Abs",
        "Add",
        "AddN",
        "AddV2",
        "Cast",
        "ClipByValue",
        "DivNoNan",
        "ExpandDims",
        "Identity",
        "Inv",
        "Maximum",
        "Minimum",
        "Mul",
        "MulNoNan",
        "Neg",
        "Pow",
        "RealDiv",
        "Reciprocal",
        "Reshape",
        "Rsqrt",
        "RsqrtGrad",
        "Select",
        "SelectV2",
        "Sign",
        "Sqrt",
        "Square",
        "Squeeze",
        "Sub",
    ]
)
MAX_OPERATIONS = 64
"""A tail longer than this is copied no further: every copied operation is computed twice."""
MARK = "_tracediff"


def private_copy(tensor: Any, copied: Dict[Any, Any]) -> Any:
    """Computes a tensor of the graph being built a second time, from where no rewriting reaches.

    Args:
        tensor: a symbolic TensorFlow tensor.
        copied: operation -> its copy; shared by the tensors of one step.

    Returns:
        A tensor with the same value, or the tensor itself where nothing elementwise precedes it.
    """
    operation = tensor.op
    if operation.type not in ELEMENTWISE or len(copied) >= MAX_OPERATIONS:
        return tensor
    if operation not in copied:
        inputs = [private_copy(value, copied) for value in operation.inputs]
        attributes = dict(operation.node_def.attr)
        mark = type(next(iter(attributes.values())))() if attributes else None
        if mark is None:
            return tensor
        mark.b = True
        attributes[MARK] = mark
        copied[operation] = operation.graph.create_op(
            operation.type,
            inputs,
            [output.dtype for output in operation.outputs],
            attrs=attributes,
            name="tracediff",
        )
    return copied[operation].outputs[tensor.value_index]
