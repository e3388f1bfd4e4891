"""What the README shows is what the commands print."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
BLOCK = re.compile(
    r"<!-- output of: tracediff (?P<command>.*?) -->\n```\n(?P<output>.*?)```", re.DOTALL
)
SHOWN = BLOCK.findall((ROOT / "README.md").read_text(encoding="utf-8"))


def test_the_readme_shows_output():
    assert SHOWN


@pytest.mark.parametrize(("command", "output"), SHOWN, ids=[command for command, _ in SHOWN])
def test_the_output_in_the_readme_is_what_the_command_prints(command, output):
    # given a command that the README shows with its output
    environment = {**os.environ, "COLUMNS": "100", "NO_COLOR": "1"}
    # when
    done = subprocess.run(
        [sys.executable, "-m", "tracediff", *command.split()],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    # then
    assert done.stdout == output
    assert done.stderr == ""


def test_every_page_that_the_readme_links_to_is_there():
    # given
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    # when
    linked = re.findall(r"\]\((?!http)([^)#]+)", text)
    # then
    assert [page for page in linked if not (ROOT / page).exists()] == []
