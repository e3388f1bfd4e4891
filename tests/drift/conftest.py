"""The compiled passes, built as an installation builds them."""

import importlib.util

import pytest
from support.stacks import REPOSITORY

from tracediff.drift import native


@pytest.fixture(scope="session")
def passes(tmp_path_factory) -> native.Passes:
    spec = importlib.util.spec_from_file_location("hatch_build_core", REPOSITORY / "hatch_build.py")
    build = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(build)
    target = tmp_path_factory.mktemp("native") / "_passes.so"
    reason = build.compiled(REPOSITORY / build.SOURCE, target)
    if reason is not None:
        pytest.skip(reason)
    return native.Passes(str(target))


@pytest.fixture(scope="module", params=["compiled", "numpy"])
def either_way(request):
    """Runs the tests of a module with the compiled passes and without."""
    with pytest.MonkeyPatch.context() as patch:
        compiled = request.param == "compiled"
        patch.setattr(native, "PASSES", request.getfixturevalue("passes") if compiled else None)
        yield
