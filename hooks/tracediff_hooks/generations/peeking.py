"""What each step of a group is called with, where Keras 3 runs several steps an execution.

A compiled step that is called behind the last batch may count itself before it fails; the
framework's own loop over several steps draws a batch before it begins a step, too. So each batch of
a tf.data iterator is drawn ahead of the compiled step that consumes it.
"""

import itertools
from typing import Any, Iterator, List

FAILING_GROUPS = (
    "nothing is recorded: several steps an execution on several replicas are left to Keras, whose "
    "compiled loop over them fails, with the recorder or without it (Keras 3.15; this is {}); "
    "train with steps_per_execution=1 to record it"
)
"""What is said where `Group.fails`; to be formatted with the version of Keras."""


class Peeking:
    """Passes on the batches that it has drawn, through an iterator that a compiled step takes.

    Args:
        tensorflow: the module.
        like: an iterator whose elements are of the type of all that will be drawn.
    """

    def __init__(self, tensorflow: Any, like: Any) -> None:
        self._drawn: List[Any] = []
        dataset = tensorflow.data.Dataset.from_generator(
            self._pass_on, output_signature=like.element_spec
        )
        options = tensorflow.data.Options()
        # Else TensorFlow asks for the batch after next, which is not drawn yet.
        options.experimental_optimization.apply_default_optimizations = False
        options.experimental_optimization.inject_prefetch = False
        self._iterator = iter(dataset.with_options(options))

    def _pass_on(self) -> Iterator[Any]:
        while self._drawn:
            yield self._drawn.pop(0)

    def batches(self, drawn_from: Any, most: int) -> Iterator[Any]:
        """Draws up to ``most`` batches, each when it is asked for.

        Yields:
            For each the iterator that has it next, and no other.
        """
        for _ in range(most):
            element = drawn_from.get_next_as_optional()
            if not bool(element.has_value()):
                return
            self._drawn.append(element.get_value())
            yield self._iterator


class Group:
    """The batches of the steps that one execution runs.

    Args:
        tensorflow: the module.
        steps: how many steps an execution runs, at most.
        replicas: on how many replicas each step runs.
    """

    def __init__(self, tensorflow: Any, steps: int, *, replicas: int) -> None:
        self._tensorflow = tensorflow
        self._steps = steps
        self._replicas = replicas
        self._ahead: List[Peeking] = []

    def fails(self, iterator: Any, *, eager: bool) -> bool:
        """Whether the framework's own loop over the steps fails, so that none may be trained.

        Args:
            iterator: what the execution is called with.
            eager: whether steps are not compiled.
        """
        spread = self._replicas > 1 and hasattr(iterator, "get_next_as_optional")
        return self._steps > 1 and spread and not eager

    def batches(self, iterator: Any) -> Iterator[Any]:
        """What each step is to be called with: an iterator that has its batch next."""
        if self._steps == 1:
            yield iterator
        elif not hasattr(iterator, "get_next_as_optional"):
            for data in itertools.islice(iterator, self._steps):
                yield iter([data])
        elif self._replicas > 1:
            # Run eagerly, a step behind the last batch fails before it counts.
            for _ in range(self._steps):
                yield iterator
        else:
            self._ahead = self._ahead or [Peeking(self._tensorflow, iterator)]
            yield from self._ahead[0].batches(iterator, self._steps)
