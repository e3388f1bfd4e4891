"""The example on the format page is true: it is run against a trace."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
from support.build import RunPlan, Step, make_trace

PAGE = Path(__file__).parents[2] / "docs" / "trace-format.md"
KERNEL = ("weight", "hidden/kernel")


def test_the_example_reads_the_value_before_step_3(tmp_path, monkeypatch):
    # given
    examples = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    values = [np.array([[float(number)]], np.float32) for number in range(6)]
    plan = RunPlan([Step(after={KERNEL: value}) for value in values[1:]], {KERNEL: values[0]})
    make_trace(tmp_path / "a.zarr", plan)
    monkeypatch.chdir(tmp_path)
    names = {}
    # when
    exec(examples[-1], names)
    # then
    np.testing.assert_array_equal(names["value"], values[3])


def test_every_field_that_the_page_lists_is_in_the_table_of_tensors(tmp_path):
    # given
    page = PAGE.read_text(encoding="utf-8")
    section = page.split("## The table of tensors")[1].split("###")[0]
    cells = [line.split("|")[1] for line in section.splitlines() if line.startswith("| `")]
    listed = {name for cell in cells for name in re.findall(r"`(\w+)`", cell)}
    # when
    path = make_trace(tmp_path / "a.zarr", RunPlan([Step()], {KERNEL: np.zeros(1)}))
    import zarr

    (line,) = zarr.open_group(path, mode="r")["run-0"].attrs["run"]["tensors"]
    # then
    assert listed == set(line)
