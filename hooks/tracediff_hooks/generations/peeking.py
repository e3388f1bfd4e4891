"""Draws each batch of a tf.data iterator ahead of the compiled step that consumes it.

A compiled step that is called behind the last batch may count itself before it fails; the
framework's own loop over several steps draws a batch before it begins a step, too.
"""

from typing import Any, Iterator, List


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
