"""The runs of sessions are counted while a recording asks for it, and nothing else is touched."""

from __future__ import annotations

import functools

import pytest

from tracediff_hooks.generations.session_runs import SessionRuns


@pytest.fixture
def kind():
    """A class with the methods in which a run of TensorFlow 1.15's sessions ends."""

    class BaseSession:
        class _Callable:
            def __call__(self):
                return "called"

        def _call_tf_sessionrun(self):
            return "run"

        def _call_tf_sessionprun(self):
            return "partly run"

    return type("Session", (BaseSession,), {})


def test_a_run_between_two_readings_is_seen_and_the_reading_itself_is_not(kind):
    # Given sessions whose runs are counted
    runs, session = SessionRuns(kind), kind()
    runs.attach()
    # When one reads, then nothing else has run,
    assert runs.read(session._call_tf_sessionrun) == "run"
    assert runs.none_since
    # but for what runs afterwards, in whichever way
    for other in (session._call_tf_sessionprun, kind._Callable()):
        runs.read(session._call_tf_sessionrun)
        other()
        assert not runs.none_since
    runs.detach()


def test_what_somebody_else_has_wrapped_since_stays(kind):
    # Given sessions whose runs are counted, and a method that is wrapped by somebody else then
    base = kind.__mro__[1]
    plain = dict(vars(base))
    runs, seen = SessionRuns(kind), []
    runs.attach()
    counted = base._call_tf_sessionrun

    @functools.wraps(counted)
    def wrapper(self):
        seen.append(self)
        return counted(self)

    base._call_tf_sessionrun = wrapper
    # When the counting ends
    runs.detach()
    # Then that wrapper is there still and is called, and all else is as it was
    session = kind()
    assert session._call_tf_sessionrun() == "run"
    assert seen == [session]
    assert vars(base)["_call_tf_sessionprun"] is plain["_call_tf_sessionprun"]
