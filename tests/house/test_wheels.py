"""What people install: the two wheels hold what they should, and nothing of the checkout leaks."""

import os
import shutil
import subprocess
import sys
import zipfile
from configparser import ConfigParser
from pathlib import Path

import pytest
from support.stacks import REPOSITORY, Stack

# Folders of the checkout that must never become importable on a user's machine.
FOLDERS = ("hooks", "tui", "tests", "samples", "bench")
LOOK_FOR = "import sys, importlib.util as u; print([n for n in sys.argv[1:] if u.find_spec(n)])"

# What a wheel has in place of a source.
SOURCES = {
    "tracediff/drift/_passes.c",
    "tracediff_hooks/_passes.c",
    "tracediff_hooks/_xxh3.h",
}
COMPILED = {"tracediff": "tracediff/drift/_passes.so", "hooks": "tracediff_hooks/_passes.so"}


@pytest.fixture(scope="module")
def core_wheel(tmp_path_factory) -> Path:
    return build_wheel(REPOSITORY, tmp_path_factory.mktemp("core"))


@pytest.fixture(scope="module")
def hooks_wheel(tmp_path_factory) -> Path:
    return build_wheel(REPOSITORY / "hooks", tmp_path_factory.mktemp("hooks"))


def build_wheel(source: Path, into: Path, **environment: str) -> Path:
    command = [sys.executable, "-m", "build", "--no-isolation", "--wheel", "--outdir", str(into)]
    done = subprocess.run(
        [*command, str(source)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, **environment},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    (wheel,) = into.glob("*.whl")
    return wheel


def compiled_here(distribution: str) -> set[str]:
    """What is compiled into a wheel, where there is a compiler."""
    return {COMPILED[distribution]} if shutil.which("cc") else set()


def files_in(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as archive:
        return {name for name in archive.namelist() if not name.endswith("/")}


def console_scripts_of(wheel: Path) -> dict[str, str]:
    with zipfile.ZipFile(wheel) as archive:
        (member,) = (n for n in archive.namelist() if n.endswith(".dist-info/entry_points.txt"))
        declared = ConfigParser()
        declared.read_string(archive.read(member).decode())
    return dict(declared["console_scripts"])


def modules_under(folder: Path) -> set[str]:
    """The files of a package as git would see them: without caches."""
    return {
        path.relative_to(folder.parent).as_posix()
        for path in folder.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts and path.suffix != ".so"
    }


def install(wheel: Path, into: Path) -> Path:
    command = [sys.executable, "-m", "pip", "install", "--disable-pip-version-check", "-q"]
    command += ["--no-deps", "--no-index", "--target", str(into), str(wheel)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return into


def importable_from(folder: Path, *names: str) -> list[str]:
    """Which names a Python finds that sees `folder` and the standard library, and nothing else."""
    program = f"import sys; sys.path.insert(0, {str(folder)!r}); {LOOK_FOR}"
    # -I leaves out the current folder and the environment, -S this environment's site-packages.
    command = [sys.executable, "-I", "-S", "-c", program, *names]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return eval(done.stdout)


def test_the_core_wheel_holds_the_core_and_its_interface(core_wheel):
    # Given the wheel, when its files are listed
    files = files_in(core_wheel)
    # Then they are the two packages, whole, and the metadata
    metadata = {name for name in files if name.startswith("tracediff-")}
    packages = modules_under(REPOSITORY / "tracediff")
    packages |= modules_under(REPOSITORY / "tui" / "tracediff_tui")
    assert files - metadata == packages - SOURCES | compiled_here("tracediff")
    assert "tracediff/py.typed" in files
    assert any(name.endswith("/licenses/LICENSE") for name in metadata)


def test_the_hooks_wheel_holds_the_recorder_alone(hooks_wheel):
    # Given the wheel, when its files are listed
    files = files_in(hooks_wheel)
    # Then they are the package, whole, and the metadata
    metadata = {name for name in files if name.startswith("tracediff_hooks-")}
    package = modules_under(REPOSITORY / "hooks" / "tracediff_hooks") - SOURCES
    assert files - metadata == package | compiled_here("hooks")
    assert "tracediff_hooks/py.typed" in files
    assert any(name.endswith("/LICENSE") for name in metadata)


@pytest.mark.parametrize("folder", ["tracediff", "hooks"])
def test_without_a_compiler_a_wheel_is_for_every_platform(tmp_path, folder):
    # Given a machine that has no C compiler, when the wheel is built there
    source = REPOSITORY if folder == "tracediff" else REPOSITORY / folder
    wheel = build_wheel(source, tmp_path, CC="no-such-compiler")
    # Then nothing compiled is in it, and its name says so
    assert not {name for name in files_in(wheel) if "_passes" in name}
    assert wheel.name.endswith("-py3-none-any.whl")


def test_a_wheel_with_something_compiled_is_for_its_platform(core_wheel, hooks_wheel):
    # Given both wheels, when their names are read
    for wheel, distribution in ((core_wheel, "tracediff"), (hooks_wheel, "hooks")):
        # Then they say of any Python, and of any platform where nothing is compiled only
        assert "-py3-none-" in wheel.name
        assert wheel.name.endswith("-any.whl") == (not compiled_here(distribution))


def test_the_installed_core_finds_what_is_compiled(core_wheel, tmp_path):
    # Given the wheel, installed where nothing else is
    place = install(core_wheel, tmp_path / "site")
    program = "from tracediff.drift import native as n; print(n.PASSES is not None, n.__file__)"
    # When a Python that finds it first looks for the library
    env = {**os.environ, "PYTHONPATH": str(place), "TRACEDIFF_NATIVE": ""}
    command = [sys.executable, "-P", "-c", program]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=env)
    # Then it is there, unless nothing was compiled
    found, file = done.stdout.split()
    assert Path(file).parent == place / "tracediff" / "drift"
    assert (found == "True") == bool(compiled_here("tracediff"))


def test_each_wheel_declares_its_command(core_wheel, hooks_wheel):
    # Given both wheels, when their entry points are read
    commands = console_scripts_of(core_wheel), console_scripts_of(hooks_wheel)
    # Then each has the one command of the documentation
    assert commands == (
        {"tracediff": "tracediff.cli:main"},
        {"tracediff-record": "tracediff_hooks.cli:main"},
    )


def test_the_core_wheel_installs_no_folder_of_the_checkout(core_wheel, tmp_path):
    # Given a place with nothing in it, when the wheel is installed there
    place = install(core_wheel, tmp_path / "site")
    # Then its packages can be imported, and no folder of the checkout
    wanted = ["tracediff", "tracediff_tui"]
    assert importable_from(place, *wanted, "tracediff_hooks", *FOLDERS) == wanted
    assert (place / "bin" / "tracediff").is_file()


def test_the_hooks_wheel_installs_no_folder_of_the_checkout(hooks_wheel, tmp_path):
    # Given a place with nothing in it, when the wheel is installed there
    place = install(hooks_wheel, tmp_path / "site")
    # Then the recorder can be imported, no folder of the checkout, and nothing of the core
    wanted = ["tracediff_hooks"]
    assert importable_from(place, *wanted, "tracediff", "tracediff_tui", *FOLDERS) == wanted
    assert (place / "bin" / "tracediff-record").is_file()


def test_an_editable_install_exposes_no_folder_of_the_checkout(tmp_path):
    # Given this environment, where both are installed from the checkout
    packages = ["tracediff", "tracediff.compare", "tracediff_hooks", "tracediff_hooks.recorder"]
    command = [sys.executable, "-I", "-c", LOOK_FOR, *packages, *FOLDERS]
    # When a program elsewhere looks for what is in the packages and for the folders beside them
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    # Then it finds the packages only
    assert eval(done.stdout) == packages


def test_the_oldest_pip_installs_the_hooks_wheel(hooks_wheel, keras23: Stack, tmp_path):
    # Given the Python 3.7 stack, when its pip installs the wheel
    place = tmp_path / "site"
    pip = ["-m", "pip", "install", "--disable-pip-version-check", "-q", "--no-deps", "--no-index"]
    keras23.run(*pip, "--target", place, hooks_wheel)
    # Then that Python imports the installed recorder, and its command is there
    env = {"PYTHONPATH": str(place)}
    done = keras23.run(
        "-c", "import tracediff_hooks as t; print(t.__file__)", env=env, cwd=tmp_path
    )
    assert Path(done.stdout.strip()).parent == place / "tracediff_hooks"
    assert (place / "bin" / "tracediff-record").is_file()


def test_both_distributions_carry_the_same_licence_and_version():
    # Given the files of both distributions, when they are read
    licences = [(REPOSITORY / f / "LICENSE").read_bytes() for f in (".", "hooks")]
    declared = [(REPOSITORY / f / "pyproject.toml").read_text() for f in (".", "hooks")]
    versions = [[x for x in text.splitlines() if x.startswith("version = ")] for text in declared]
    # Then they agree
    assert licences[0] == licences[1]
    assert versions[0] == versions[1] != []
