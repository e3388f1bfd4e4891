"""The command line's manners: exit statuses, streams, and no traceback for a user's mistake."""

from __future__ import annotations

import os
import subprocess
import sys
from types import SimpleNamespace

import pytest
from support.bad_inputs import ON_OPENING, ON_READING
from support.build import linear_run, make_trace

from tracediff import __version__
from tracediff.cli import _main, main
from tracediff.errors import NothingComparable


def tracediff(*words, **options):
    command = [sys.executable, "-m", "tracediff", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, check=False, **options)


@pytest.mark.parametrize("make", [*ON_OPENING, *ON_READING], ids=lambda make: make.__name__)
def test_trouble_with_a_trace_is_status_2_and_two_lines(tmp_path, capsys, make):
    # given
    path = tmp_path / "a.zarr"
    make(path)
    # when
    status = main(["info", str(path)])
    # then
    out, err = capsys.readouterr()
    error, hint = err.splitlines()
    assert status == 2
    assert out == ""
    assert error.startswith("error: ")
    assert str(path) in error
    assert hint.startswith("hint: ")


@pytest.mark.parametrize(
    ("words", "error", "hint"),
    [
        (["inf", "a.zarr"], "error: inf is no command of tracediff", "hint: did you mean info?"),
        (["frobnicate"], "error: frobnicate is no command", "hint: there are compare, explain"),
        (["info"], "error: the following arguments are required", "hint: tracediff info --help"),
        (["info", "a", "b"], "error: unrecognized arguments: b", "hint: tracediff --help"),
        (["info", "a", "--format", "xml"], "error: argument --format", "hint: tracediff info"),
        (["--frobnicate"], "error: ", "hint: tracediff --help"),
    ],
)
def test_wrong_usage_is_status_2_and_two_lines(capsys, words, error, hint):
    assert main(words) == 2
    out, err = capsys.readouterr()
    first, second = err.splitlines()
    assert out == ""
    assert first.startswith(error)
    assert second.startswith(hint)


def test_traces_without_a_command_are_answered_with_the_command(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    make_trace("my a.zarr", linear_run())
    main(["my a.zarr", "b.zarr"])
    assert "hint: did you mean tracediff compare 'my a.zarr' b.zarr?" in capsys.readouterr().err
    main(["my a.zarr"])
    assert "hint: did you mean tracediff info 'my a.zarr'?" in capsys.readouterr().err


def test_without_arguments_the_help_goes_to_stderr(capsys):
    assert main([]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert "tracediff compare a.zarr b.zarr" in err


def test_help_teaches_by_example_and_lists_every_verb(capsys):
    assert main(["--help"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert "exit status: 0 the runs agree, 1 they differ, 2 trouble" in out
    for verb, summary in _main.VERBS.items():
        assert f"{verb} " in out
        assert summary in out


def test_the_help_of_info_has_examples(capsys):
    assert main(["info", "--help"]) == 0
    assert "tracediff info a.zarr/run-1" in capsys.readouterr().out


def test_version(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"tracediff {__version__}\n"


@pytest.fixture
def verb(monkeypatch):
    """A verb ``info`` that does what the test says."""

    def install(act):
        module = SimpleNamespace(
            add_parser=lambda subparsers: subparsers.add_parser("info"), run=lambda _: act()
        )
        monkeypatch.setattr(_main, "_module", lambda _: module)

    return install


def raising(error):
    def act():
        raise error

    return act


@pytest.mark.parametrize("status", [0, 1, 2])
def test_the_status_is_that_of_the_verb(verb, status):
    verb(lambda: status)
    assert main(["info"]) == status


def test_an_error_without_a_hint_is_one_line(verb, capsys):
    verb(raising(NothingComparable("a.zarr and b.zarr share no tensor")))
    assert main(["info"]) == 2
    assert capsys.readouterr().err == "error: a.zarr and b.zarr share no tensor\n"


def test_an_interruption_is_quiet(verb, capsys):
    verb(raising(KeyboardInterrupt()))
    assert main(["info"]) == 130
    assert capsys.readouterr() == ("", "")


def test_a_fault_of_ours_is_never_taken_for_a_difference(verb, capsys):
    verb(raising(RuntimeError("surprise")))
    assert main(["info"]) == 2
    err = capsys.readouterr().err
    assert "RuntimeError: surprise" in err
    assert "error: this is a fault of tracediff" in err


def test_too_little_memory_is_told(verb, capsys):
    verb(raising(MemoryError()))
    assert main(["info"]) == 2
    assert capsys.readouterr().err.startswith("error: not enough memory\n")


def test_a_closed_pipe_is_quiet(tmp_path):
    # given: a report that nobody reads
    path = make_trace(tmp_path / "a.zarr", linear_run())
    reader, writer = os.pipe()
    os.close(reader)
    # when
    command = [sys.executable, "-m", "tracediff", "info", str(path)]
    done = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, check=False)
    os.close(writer)
    # then
    assert done.stderr == b""
    assert done.returncode == 141


def test_a_terminal_without_the_characters_gets_them_escaped(tmp_path):
    path = make_trace(tmp_path / "a.zarr", linear_run())
    done = tracediff("info", path, env={**os.environ, "PYTHONIOENCODING": "ascii"})
    assert done.returncode == 0
    assert "kernel 3\\xd72" in done.stdout


def test_info_loads_no_more_than_it_needs(tmp_path):
    path = make_trace(tmp_path / "a.zarr", linear_run())
    code = (
        "import sys; from tracediff.cli import main; main(['info', sys.argv[1]]);"
        "print([n for n in ('scipy', 'textual', 'tracediff.compare') if n in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-1] == "[]"


def test_the_package_itself_loads_no_zarr():
    code = (
        "import sys, tracediff, tracediff.cli; print('zarr' in sys.modules, 'numpy' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False False\n"
