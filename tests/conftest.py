"""Fixtures for every test: the training environments, one per file in `tests/stacks/`."""

import pytest
from hypothesis import settings
from support.stacks import Stack, every_flavour, every_stack, stack_or_skip

# Frameworks train beside the tests: how long an example takes says nothing about the code.
settings.register_profile("shared-machine", deadline=None)
settings.load_profile("shared-machine")


@pytest.fixture(scope="session", autouse=True)
def _cache_of_the_tests(tmp_path_factory):
    """Keep what commands keep in a folder of this session, not in the user's."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TRACEDIFF_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session")
def keras23() -> Stack:
    """Keras 2.3 on TensorFlow 1.15, Python 3.7: graph mode."""
    return stack_or_skip("keras2.3")


@pytest.fixture(scope="session")
def tf23() -> Stack:
    """tf.keras of TensorFlow 2.3, Python 3.8: tf.function."""
    return stack_or_skip("tf2.3")


@pytest.fixture(scope="session")
def keras3() -> Stack:
    """Keras 3 on TensorFlow, Python 3.11."""
    return stack_or_skip("keras3")


@pytest.fixture(scope="session", params=every_stack())
def stack(request: pytest.FixtureRequest) -> Stack:
    """Each training environment in turn."""
    return stack_or_skip(request.param)


@pytest.fixture(scope="session", params=every_flavour())
def training(request: pytest.FixtureRequest) -> Stack:
    """Each Keras that can be trained with: one environment may hold two."""
    return stack_or_skip(request.param)
