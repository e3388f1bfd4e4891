"""Finds the optimizers of a model, and what is known of their kind."""

from typing import AbstractSet, Any, Iterable, List, Optional, Sequence, Tuple

from tracediff_hooks.state import same_objects
from tracediff_hooks.tensors import ScaledBy

NO_RATE = "the optimizer {} has no learning rate under that name, so none is recorded"
"""What is said of an optimizer of a script's own."""


class Optimizers:
    """The optimizers that update a model, looked for again only where something may have changed.

    Args:
        model: the model that is trained.
    """

    def __init__(self, model: Any) -> None:
        self._model = model
        self._held: Sequence[Any] = ()
        self._found: List[Tuple[str, Any]] = []

    def __call__(
        self, others: Sequence[Tuple[str, Any]], used: AbstractSet[int]
    ) -> List[Tuple[str, Any]]:
        """The optimizers by name.

        Args:
            others: those that the model does not hold, by name.
            used: the identities of those that were seen to update it; while there are none, all
                that may do so are given.
        """
        compiled = getattr(self._model, "optimizer", None)
        held = [compiled, *vars(self._model).values(), *others, *used]
        if not same_objects(held, self._held):
            found = optimizers_of(self._model)
            known = [optimizer for _, optimizer in found]
            found += [one for one in others if one[1] not in known]
            self._found = [one for one in found if id(one[1]) in used] or found
            self._held = held
        return self._found


def optimizers_of(model: Any) -> List[Tuple[str, Any]]:
    """Every optimizer a model holds, by name: a custom `train_step` may use several.

    The one that the model was compiled with is called ``optimizer``, any other by its attribute.
    """
    found: List[Tuple[str, Any]] = []
    compiled = [("optimizer", getattr(model, "optimizer", None))]
    for name, value in compiled + list(vars(model).items()):
        if hasattr(value, "apply_gradients") and all(value is not other for _, other in found):
            found.append((name.lstrip("_"), value))
    return found


def scales_the_loss(optimizer: Any) -> bool:
    """Whether an optimizer multiplies the loss, to keep small gradients of half precision."""
    return any(cls.__name__.startswith("LossScaleOptimizer") for cls in type(optimizer).__mro__)


def inner_of(optimizer: Any) -> Any:
    """The optimizer inside one that scales the loss, which does the work; any other itself."""
    for name in ("inner_optimizer", "_optimizer"):
        inner = getattr(optimizer, name, None)
        if hasattr(inner, "apply_gradients"):
            return inner
    return optimizer


def scale_of(name: str, optimizer: Any) -> Optional[ScaledBy]:
    """What an optimizer multiplies the loss by, and with it the gradients it is given; or None.

    Args:
        name: what the optimizer is called in the trace.
        optimizer: the optimizer.
    """
    if not scales_the_loss(optimizer):
        factor = getattr(optimizer, "loss_scale_factor", None)
        return None if factor is None else float(factor)
    state = getattr(optimizer, "_loss_scale", None)
    if hasattr(optimizer, "dynamic_growth_steps") and state is None:  # Keras 3
        return name + "/dynamic_scale"
    if hasattr(state, "_current_loss_scale"):
        return name + "/dynamic_scale"
    fixed = getattr(state, "_loss_scale_value", state)  # of tf.keras 2.3; of 2.15 and later
    return float(fixed) if isinstance(fixed, (int, float)) else None


def scale_variables(optimizer: Any) -> List[Tuple[str, Any]]:
    """The state of tf.keras's dynamic loss scale, by the names that Keras 3 has for it."""
    state = getattr(optimizer, "_loss_scale", None)
    names = {
        "_current_loss_scale": "dynamic_scale",
        "_num_good_steps": "step_counter",  # of tf.keras 2.3
        "_counter": "step_counter",
    }
    found = [(names[attribute], getattr(state, attribute, None)) for attribute in names]
    return [(own, variable) for own, variable in found if hasattr(variable, "assign")]


def may_skip(optimizers: Iterable[Any]) -> Optional[str]:
    """Why a step of these optimizers may leave the weights as they are, or None."""
    reasons = []
    for optimizer in optimizers:
        owner = getattr(optimizer, "inner_optimizer", optimizer)
        steps = getattr(owner, "gradient_accumulation_steps", None)
        if isinstance(steps, int) and steps > 1:
            reasons.append(f"gradients are added up (gradient_accumulation_steps={steps})")
        if scales_the_loss(optimizer):
            reasons.append("a gradient is not finite (loss scaling)")
    return ", or ".join(reasons) or None
