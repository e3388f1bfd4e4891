"""A trace may be written to a URL that fsspec knows; what stands in the way is said beforehand."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from support.stacks import stack_or_skip

import tracediff
from tracediff_hooks import TraceCallback, cli

RECORD = ("-m", "tracediff_hooks", "record")
TRAINING = """
import sys
import numpy as np
print("ran")
if "train" in sys.argv:
    import keras
    x = np.linspace(-1, 1, 24).reshape(8, 3).astype("float32")
    model = keras.Sequential([keras.layers.Dense(2, input_shape=(3,), name="out")])
    model.compile("sgd", "mse")
    model.fit(x, x[:, :2], batch_size=4, epochs=int(sys.argv[2]), verbose=0)
    np.savez("w.npz", *model.get_weights())
"""
NO_FSSPEC = "fsspec is not installed here: pip install fsspec and its package for this kind of URL"


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "train.py").write_text(TRAINING)
    return tmp_path


def test_without_fsspec_one_line_says_what_to_install_before_the_script_runs(keras3, folder):
    # Given a stack without fsspec, when a script is to be recorded to a URL
    done = keras3.run(*RECORD, "-o", "s3://bucket/a.zarr", "train.py", cwd=folder, status=2)
    # Then it does not run, and one line says what to install
    assert done.stdout == ""
    (error,) = done.stderr.splitlines()
    assert error.startswith("error: s3://bucket/a.zarr cannot be written to, for " + NO_FSSPEC)


def test_without_fsspec_the_callback_is_refused_when_it_is_made(monkeypatch):
    # Given that fsspec cannot be imported, when a callback is made for a URL
    monkeypatch.setitem(sys.modules, "fsspec", None)
    with pytest.raises(ValueError, match=NO_FSSPEC):
        TraceCallback("s3://bucket/a.zarr")
    # Then only that is refused: a folder needs no fsspec
    TraceCallback("never-made.zarr").close()


@pytest.mark.exhaustive
def test_a_script_is_recorded_to_a_url_and_what_stands_there_is_not_overwritten(folder):
    # Given a stack with fsspec, which torch brings
    torch = stack_or_skip("keras3-torch")
    url = f"file://{folder}/a.zarr"

    def record(*options, status=0):
        return torch.run(
            *RECORD, *options, "-o", url, "train.py", *train, cwd=folder, status=status
        )

    # When a script is recorded to a URL
    train = ("train", "2")
    record()
    # Then the trace ends with the weights that the script ended with
    (run,) = tracediff.open_trace(folder / "a.zarr").runs
    assert (run.steps, run.status) == (4, "complete")
    with np.load(folder / "w.npz") as arrays:
        kernel = run.read(run.tensor("weight", "out/kernel"), 3, "after")
        assert np.array_equal(kernel, arrays[arrays.files[0]])

    # When another is to be recorded there, then it does not run, unless it may replace the trace,
    train = ("train", "3")
    refused = record(status=2)
    assert refused.stdout == ""
    assert refused.stderr.startswith(f"error: {url} exists already; pass overwrite=True")
    assert tracediff.open_trace(folder / "a.zarr").runs[0].steps == 4
    record("--overwrite")
    assert tracediff.open_trace(folder / "a.zarr").runs[0].steps == 6
    # and what is not a trace is not deleted even then
    (folder / "a.zarr" / ".zattrs").unlink()
    assert "is not a trace" in record("--overwrite", status=2).stderr
    assert (folder / "a.zarr" / ".zgroup").exists()


@pytest.mark.exhaustive
@pytest.mark.parametrize(
    ("url", "why"), [("s3://bucket/a.zarr", "s3fs"), ("nowhere://a.zarr", "nowhere")]
)
def test_a_kind_of_url_that_fsspec_cannot_serve_is_said_before_the_script_runs(folder, url, why):
    # Given fsspec without the package for a kind of URL, or a kind that there is not
    done = stack_or_skip("keras3-torch").run(*RECORD, "-o", url, "train.py", cwd=folder, status=2)
    # When a script is to be recorded there, then it does not run, and one line says why
    assert done.stdout == ""
    (error,) = done.stderr.splitlines()
    assert error.startswith(f"error: {url} cannot be written to")
    assert why in error.replace(url, "")
    assert "record to a folder" in error


def test_a_selftest_cannot_be_kept_at_a_url(capsys):
    with pytest.raises(SystemExit) as ended:
        cli.main(["--selftest", "-o", "s3://bucket/a.zarr", "train.py"])
    assert ended.value.code == 2
    assert "-o must name one and no URL" in capsys.readouterr().err
