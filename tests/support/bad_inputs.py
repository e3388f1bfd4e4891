"""Everything that is not a sound trace, each as a function that puts it at a path."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import zarr

from support.build import linear_run, make_trace
from tracediff import errors


def nothing(path: Path) -> None:
    """Leave the path empty."""


def file(path: Path) -> None:
    path.write_text("no trace")


def empty_file(path: Path) -> None:
    path.write_bytes(b"")


def archive(path: Path) -> None:
    path.write_bytes(b"PK")


def empty_folder(path: Path) -> None:
    path.mkdir()


def folder(path: Path) -> None:
    path.mkdir()
    (path / "notes.txt").write_text("no trace")


def folder_of_traces(path: Path) -> None:
    path.mkdir()
    make_trace(path / "inside.zarr", linear_run(steps=1))


def dangling_link(path: Path) -> None:
    path.symlink_to(path.with_name("gone"))


def zarr_array(path: Path) -> None:
    zarr.create_array(path, shape=(2,), dtype="f4", zarr_format=2)


def zarr_group(path: Path) -> None:
    zarr.open_group(path, mode="w", zarr_format=2).create_array("x", shape=(1,), dtype="f4")


def zarr_format_3(path: Path) -> None:
    zarr.open_group(path, mode="w", zarr_format=3, attributes={"tracediff": {"format": 1}})


def newer_format(path: Path) -> None:
    zarr.open_group(path, mode="w", zarr_format=2, attributes={"tracediff": {"format": 99}})


def no_run(path: Path) -> None:
    header = {"tracediff": {"format": 1, "writer": "test"}}
    zarr.open_group(path, mode="w", zarr_format=2, attributes=header)


def odd_header(path: Path) -> None:
    zarr.open_group(path, mode="w", zarr_format=2, attributes={"tracediff": {"format": "one"}})


def broken_attributes(path: Path) -> None:
    make_trace(path, linear_run(steps=2))
    (path / ".zattrs").write_text('{"tracediff": {"form')


def broken_group(path: Path) -> None:
    make_trace(path, linear_run(steps=2))
    (path / ".zgroup").write_text("{}")


def missing_group(path: Path) -> None:
    make_trace(path, linear_run(steps=2))
    (path / ".zgroup").unlink()


def broken_run(path: Path) -> None:
    make_trace(path, linear_run(steps=2))
    (path / "run-0/.zattrs").write_text("[1, 2")


def empty_run(path: Path) -> None:
    make_trace(path, linear_run(steps=2))
    (path / "run-0/.zattrs").write_text(json.dumps({}))


def truncated_table(path: Path) -> None:
    make_trace(path, linear_run(steps=2))
    chunk = path / "run-0/steps/seconds/0"
    chunk.write_bytes(chunk.read_bytes()[:-5])


def truncated_loss(path: Path) -> None:
    make_trace(path, linear_run(steps=2))
    chunk = path / "run-0/values/loss/loss/0"
    chunk.write_bytes(chunk.read_bytes()[:-5])


def missing_digests(path: Path) -> None:
    make_trace(path, linear_run(steps=2))
    (path / "run-0/observed/digest/0.0.0").unlink()


def flipped_loss(path: Path) -> None:
    make_trace(path, linear_run(steps=2))
    chunk = path / "run-0/values/loss/loss/0"
    values = np.frombuffer(chunk.read_bytes(), np.float32).copy()
    values[0] += 1
    chunk.write_bytes(values.tobytes())


def missing_table(path: Path) -> None:
    make_trace(path, linear_run(steps=2))
    shutil.rmtree(path / "run-0/external")


ON_OPENING = {
    nothing: errors.TraceNotFound,
    dangling_link: errors.NotATrace,
    file: errors.NotATrace,
    empty_file: errors.NotATrace,
    archive: errors.NotATrace,
    empty_folder: errors.NotATrace,
    folder: errors.NotATrace,
    folder_of_traces: errors.NotATrace,
    zarr_array: errors.NotATrace,
    zarr_group: errors.NotATrace,
    zarr_format_3: errors.UnsupportedFormat,
    newer_format: errors.UnsupportedFormat,
    no_run: errors.NotATrace,
    odd_header: errors.DamagedTrace,
    broken_attributes: errors.DamagedTrace,
    broken_group: errors.DamagedTrace,
    missing_group: errors.DamagedTrace,
    broken_run: errors.DamagedTrace,
    empty_run: errors.DamagedTrace,
}
"""What `open_trace` refuses, and with which error."""

ON_READING = {
    truncated_table: errors.DamagedTrace,
    truncated_loss: errors.DamagedTrace,
    missing_digests: errors.DamagedTrace,
    flipped_loss: errors.DamagedTrace,
    missing_table: errors.DamagedTrace,
}
"""What opens, and is found damaged where it is read: by any verb that needs all of it."""
