"""`tracediff-record` runs a script as `python` does, to its end, and says what it cannot do.

What it records of scripts that train is in test_recorded_scripts.py.
"""

from __future__ import annotations

import json
import types
from pathlib import Path

import pytest

from tracediff_hooks import cli
from tracediff_hooks.attach import _wrap_fit
from tracediff_hooks.callback import TraceCallback

RECORD = ("-m", "tracediff_hooks", "record")


# --- scripts that need no framework


FACTS = """
import json, sys
print(json.dumps([sys.argv, __name__, __file__, sys.path[0], sys.modules["__main__"].__file__]))
"""


@pytest.mark.parametrize("absolute", [True, False])
def test_arguments_reach_the_script_as_they_are(stack, tmp_path, absolute):
    # Given a script in another folder, arguments that look like the command's own among its own
    folder = tmp_path / "scripts"
    folder.mkdir()
    (folder / "facts.py").write_text(FACTS)
    script = folder / "facts.py" if absolute else Path("scripts") / "facts.py"
    arguments = ["-o", "b.zarr", "--help", "--", "-m", "x", "--level=full", ""]
    # When python runs it and when the command does
    plain = stack.run(script, *arguments, cwd=tmp_path)
    recorded = stack.run(
        *RECORD, "-o", tmp_path / "a.zarr", script, *arguments, cwd=tmp_path, status=2
    )
    # Then it sees the same
    assert json.loads(recorded.stdout) == json.loads(plain.stdout)


def test_what_a_script_leaves_for_the_end_still_finds_it(stack, tmp_path):
    # Given a script that looks for itself, and pickles an object of its own at exit
    (tmp_path / "script.py").write_text(
        "import atexit, os, pickle\n"
        "class Own: pass\n"
        "atexit.register(lambda: print(type(pickle.loads(pickle.dumps(Own()))).__name__))\n"
        "print(os.path.exists(__file__))\n"
    )
    # When the command runs it
    done = stack.run(*RECORD, "-o", "a.zarr", "script.py", cwd=tmp_path, status=2)
    # Then both work
    assert done.stdout.split() == ["True", "Own"]


@pytest.mark.parametrize("ending", ["", "import sys; sys.exit()", "import sys; sys.exit(0)"])
def test_a_script_that_never_fits_is_an_error(stack, tmp_path, ending):
    # Given a script that ends well, by itself or on purpose, and trains nothing
    (tmp_path / "script.py").write_text(f"print('done')\n{ending}\n")
    # When the command runs it
    done = stack.run(*RECORD, "-o", tmp_path / "a.zarr", "script.py", cwd=tmp_path, status=2)
    # Then it ran, and one error and one hint say that there is nothing to compare
    assert done.stdout == "done\n"
    error, hint = done.stderr.splitlines()
    assert error == "error: script.py called no Model.fit, so nothing was recorded"
    assert hint.startswith("hint: ")
    assert not (tmp_path / "a.zarr").exists()


@pytest.mark.parametrize(
    ("code", "status", "said"),
    [
        ("import sys; sys.exit(7)", 7, ""),
        ("import sys; sys.exit('no such data')", 1, "no such data"),
        ("raise KeyError('lost')", 1, "KeyError: 'lost'"),
        ("raise KeyboardInterrupt", -2, "KeyboardInterrupt"),
        ("import os; os._exit(9)", 9, ""),
    ],
)
def test_the_scripts_own_end_is_the_commands(stack, tmp_path, code, status, said):
    # Given a script that ends in some way, when python runs it and when the command does
    (tmp_path / "script.py").write_text(code + "\n")
    if status == -2 and stack.name == "keras2.3":
        status = 1  # Python 3.7 ends so after Ctrl-C; later ones as killed by the signal
    plain = stack.run("script.py", cwd=tmp_path, status=status)
    recorded = stack.run(
        *RECORD, "-o", tmp_path / "a.zarr", "script.py", cwd=tmp_path, status=status
    )
    # Then status and last words are the same
    assert plain.stderr.splitlines()[-1:] == recorded.stderr.splitlines()[-1:]
    assert said in recorded.stderr
    assert "error: " not in recorded.stderr


def test_a_script_that_is_not_there(stack, tmp_path):
    # Given no script, when the command is to run it
    done = stack.run(*RECORD, "-o", tmp_path / "a.zarr", "missing.py", cwd=tmp_path, status=2)
    # Then one line says so, one what to do, and nothing is written
    error, hint = done.stderr.splitlines()
    assert error == "error: there is no script missing.py"
    assert hint.startswith("hint: ")
    assert list(tmp_path.iterdir()) == []


def test_a_module_that_is_not_there(stack, tmp_path):
    # Given no such module, when the command is to run it
    done = stack.run(
        *RECORD, "-o", tmp_path / "a.zarr", "-m", "no_such.module", cwd=tmp_path, status=2
    )
    # Then one line says so, and nothing is written
    assert done.stderr.splitlines()[0].startswith("error: there is no module no_such.module")
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_an_existing_trace_stops_the_command_before_the_script_runs(stack, tmp_path):
    # Given something where the trace is to be written
    (tmp_path / "script.py").write_text("print('ran')\n")
    (tmp_path / "a.zarr").mkdir()
    (tmp_path / "a.zarr" / "precious").write_text("precious")
    for option, way_out in (([], "--overwrite"), (["--overwrite"], "another path")):
        # When the command is to write there, with and without leave to replace a trace
        done = stack.run(*RECORD, *option, "-o", "a.zarr", "script.py", cwd=tmp_path, status=2)
        # Then the script does not run, one line names the way out, and nothing is touched
        assert done.stdout == ""
        (error,) = done.stderr.splitlines()
        assert error.startswith("error: a.zarr exists")
        assert way_out in error
        assert [p.name for p in (tmp_path / "a.zarr").iterdir()] == ["precious"]


def test_help_teaches_by_example(stack):
    # Given the command, when it is asked for help
    done = stack.run(*RECORD, "--help")
    # Then it shows how it is used, for scripts and for modules, and what to do next
    assert "tracediff-record -o a.zarr train.py --epochs 2" in done.stdout
    assert "-m my_package.train" in done.stdout
    assert "tracediff compare a.zarr b.zarr" in done.stdout
    assert done.stderr == ""
    assert "usage" in stack.run("-m", "tracediff_hooks", "--help").stdout


@pytest.mark.parametrize(
    "arguments", [[], ["train.py"], ["-o"], ["-o", "a.zarr"], ["--level", "all", "train.py"]]
)
def test_a_wrong_command_line_shows_the_usage(arguments, capsys):
    # Given a command line that lacks something, when it is run
    with pytest.raises(SystemExit) as ended:
        cli.main(arguments)
    # Then it ends with status 2, the usage and the reason
    assert ended.value.code == 2
    said = capsys.readouterr().err
    assert said.startswith("usage: tracediff-record -o TRACE [options] SCRIPT [ARGS ...]")
    assert "error: " in said


# --- which classes are wrapped


def module_with_model(name, model_module):
    module = types.ModuleType(name)

    class Model:
        def fit(self, x, callbacks=None):
            return x, callbacks

    Model.__module__ = model_module
    module.Model = Model
    return module


@pytest.fixture
def callback(tmp_path):
    made = TraceCallback(tmp_path / "a.zarr")
    yield made
    made.close()


def test_a_class_is_wrapped_where_it_is_defined(callback):
    # Given the module in which a framework defines Model
    module = module_with_model("keras.engine.training", "keras.engine.training")
    # When it has been loaded, then the callback is added to what the script passes,
    _wrap_fit(module, callback=callback)
    assert module.Model().fit(1) == (1, [callback])
    assert module.Model().fit(1, ["own"]) == (1, ["own", callback])
    assert module.Model().fit(1, callbacks=None) == (1, [callback])
    # once, however often it is loaded
    _wrap_fit(module, callback=callback)
    assert module.Model().fit(1) == (1, [callback])


def test_a_class_that_is_only_shown_on_is_not_wrapped(callback):
    # Given keras 2.4's module of the same name, which shows tf.keras's Model on
    module = module_with_model("keras.engine.training", "tensorflow.python.keras.engine.training")
    # When it has been loaded, then that class is left to the module that defines it
    _wrap_fit(module, callback=callback)
    assert module.Model().fit(1) == (1, None)


def test_a_callback_of_the_scripts_own_is_left_alone(callback, tmp_path):
    # Given a script that passes a callback of the recorder itself, alone or in a list
    module = module_with_model("keras.engine.training", "keras.engine.training")
    _wrap_fit(module, callback=callback)
    own = TraceCallback(tmp_path / "own.zarr")
    # When it fits, then nothing is added
    assert module.Model().fit(1, [own]) == (1, [own])
    assert module.Model().fit(1, own) == (1, own)


def test_a_single_callback_of_the_script_is_kept(callback):
    # Given a script that passes one callback without a list, as some generations allow
    module = module_with_model("keras.engine.training", "keras.engine.training")
    _wrap_fit(module, callback=callback)

    class Own:
        def set_model(self, model):
            pass

    own = Own()
    # When it fits, then both are there
    assert module.Model().fit(1, own) == (1, [own, callback])


def test_a_wrong_call_of_fit_fails_as_the_framework_has_it(callback):
    # Given a wrapped fit, when it is called with an argument that it does not have
    module = module_with_model("keras.engine.training", "keras.engine.training")
    _wrap_fit(module, callback=callback)
    # Then the framework's own error comes through
    with pytest.raises(TypeError, match="nonsense"):
        module.Model().fit(1, nonsense=2)
