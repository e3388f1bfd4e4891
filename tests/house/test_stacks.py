"""The builder of training environments: what it promises without building any."""

import re

import pytest
from stacks import build


@pytest.fixture(autouse=True)
def forget_interpreters():
    build.interpreter.cache_clear()
    yield
    build.interpreter.cache_clear()


@pytest.mark.parametrize("name", build.names())
def test_every_requirement_is_pinned(name):
    # Given a stack's requirements, when its lines are read
    requirements = build.requirements_of(name)
    lines = [x for x in requirements.read_text().splitlines() if not x.startswith("#")]
    # Then each names one version, and the file the Python it is for
    assert [x for x in lines if not re.fullmatch(r"[\w.-]+==[\w.]+", x)] == []
    assert build.python_of(requirements).startswith("3.")


def test_an_unknown_stack_is_answered_with_those_there_are(capsys):
    # Given a name that no stack has, when it is built
    status = build.main(["keras2.4"])
    # Then the message lists the names to choose from
    assert status == 2
    assert (
        "keras2.3, keras3, keras3-jax, keras3-torch, tf-keras, tf2.15, tf2.3"
        in capsys.readouterr().err
    )


def test_stacks_too_heavy_for_every_run_are_built_only_when_asked_for(monkeypatch):
    # Given a builder that only notes what it is asked to build
    asked = []
    monkeypatch.setattr(
        build, "build", lambda name: asked.append(name) or build.Stack(name, None, "")
    )
    # When no stack is named, then those without the mark are built, and with --all every one
    build.main([])
    assert asked == ["keras2.3", "keras3", "tf2.3"]
    asked.clear()
    build.main(["--all"])
    assert asked == build.names()
    # and one that is named is built, however heavy
    asked.clear()
    build.main(["tf2.15"])
    assert asked == ["tf2.15"]


@pytest.mark.parametrize(("arguments", "status"), [([], 0), (["--require"], 2)])
def test_a_missing_interpreter_is_named(tmp_path, monkeypatch, capsys, arguments, status):
    # Given a machine without Python 3.7
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("PYENV_ROOT", str(tmp_path))
    monkeypatch.setenv("TRACEDIFF_STACKS", str(tmp_path))
    # When its stack is built
    ended = build.main(["keras2.3", *arguments])
    # Then one line names the interpreter, and it is a failure only where that was asked for
    output = capsys.readouterr()
    assert ended == status
    assert output.out.startswith("keras2.3\t-\t")
    assert "needs Python 3.7" in output.err
    assert len(output.err.splitlines()) == 1


def test_a_command_that_pretends_to_be_an_interpreter_is_passed_over(tmp_path, monkeypatch):
    # Given a `python3.7` on PATH that fails when it is run, as pyenv's do for inactive versions
    pretender = tmp_path / "python3.7"
    pretender.write_text("#!/bin/sh\nexit 127\n")
    pretender.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin")
    monkeypatch.setenv("PYENV_ROOT", str(tmp_path))
    # When the interpreter is looked for, then there is none
    assert build.interpreter("3.7") is None


def test_an_interrupted_build_is_not_taken_for_a_stack(tmp_path, monkeypatch):
    # Given an environment whose building was cut short, so that its last mark is missing
    monkeypatch.setenv("TRACEDIFF_STACKS", str(tmp_path))
    monkeypatch.setattr(build, "interpreter", lambda version: build.Interpreter("python", "3.7.1"))
    requirements = build.requirements_of("keras2.3")
    environment = build._environment("keras2.3", requirements, build.interpreter("3.7"))
    python = environment / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.touch()
    # When it is looked for before and after the mark is set
    before = build.find("keras2.3")
    (environment / build.COMPLETE).touch()
    after = build.find("keras2.3")
    # Then only the finished one is found
    assert before.python is None
    assert "is not built" in before.reason
    assert after.python == python
