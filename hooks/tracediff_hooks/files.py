"""Where the files of a trace are put: a folder, or any URL that fsspec knows.

A trace is a zarr store of format 2, whose arrays are files with plain names. They are written here
and not through zarr, because zarr's work on a chunk costs more than the bytes in it and holds the
interpreter lock all the while; a system call lets training go on.
"""

import contextlib
import os
import shutil
from collections import OrderedDict
from typing import Any, Dict, Optional, Set, Union

from tracediff_hooks.target import objects_at

OPEN_FILES = 128
"""Files of values kept open, the least recently used one is closed for the next."""

LAST_WORDS = tuple(f".reserve-{number}" for number in range(8))
"""Files that take some of the disk while a trace is recorded. Where the disk fills they are given
back, so that the trace can say so."""
LAST_WORDS_BYTES = 32 << 10
"""The size of each."""

GROUP = b'{"zarr_format": 2}'
"""What makes a group of a folder."""

_BY_FOLDER = os.open in os.supports_dir_fd and os.rename in os.supports_dir_fd


class StoreReplacedError(RuntimeError):
    """Another process has put something else where the trace was."""


class LocalFiles:
    """A folder on this machine.

    All names are taken relative to the folder as it was opened: where somebody moves it away or
    replaces it, nothing is written into what then stands at its path.

    Attributes:
        groups: the groups that were made.
        used: the sizes of all files written, in bytes.
        waiting: the bytes that arrays have gathered and not written yet.
    """

    in_place = True

    def __init__(self, path: str, *, overwrite: bool) -> None:
        self.groups: Set[str] = set()
        self.used = self.waiting = 0
        self._path = path
        self._sizes: Dict[str, int] = {}
        self._reserved = False
        if overwrite and os.path.lexists(path):
            _remove(path)
        os.makedirs(path, exist_ok=True)
        self._folder = os.open(path, os.O_RDONLY) if _BY_FOLDER else None
        self._open: OrderedDict[str, int] = OrderedDict()
        self._folders = {""}
        self._claim()
        self._identity = self._stat(".zgroup")

    def _claim(self) -> None:
        """Makes the group of the trace; of two processes one finds it made."""
        file = self._file(".zgroup", os.O_CREAT | os.O_EXCL | os.O_WRONLY)
        try:
            _write_all(file, memoryview(GROUP), None)
        except OSError:
            self.abandon()
            raise
        finally:
            os.close(file)

    def abandon(self) -> None:
        """Removes what was made so far: a trace that cannot be begun is none."""
        self.release()
        for name in (".zattrs.part", ".zattrs", ".zgroup"):
            with contextlib.suppress(OSError):
                os.unlink(self._at(name), dir_fd=self._folder)
        with contextlib.suppress(OSError):
            os.rmdir(self._path)
        self.close()

    def reserve(self) -> None:
        """Takes some of the disk for the last words of a trace, until it is released."""
        if not self._reserved:
            # No zeros, for which some file systems take no room; no part of `used`, for a budget
            # leaves some free itself.
            used, self._reserved = self.used, True
            for name in LAST_WORDS:
                self.put(name, os.urandom(LAST_WORDS_BYTES))
            self.used = used

    def release(self) -> None:
        """Gives back what was reserved."""
        if self._reserved:
            self._reserved = False
            for name in [*LAST_WORDS, *(name + ".part" for name in LAST_WORDS)]:
                with contextlib.suppress(OSError):
                    os.unlink(self._at(name), dir_fd=self._folder)

    def _at(self, key: str) -> str:
        return key if self._folder is not None else os.path.join(self._path, key)

    def _file(self, key: str, flags: int) -> int:
        flags |= getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0)
        return os.open(self._at(key), flags, 0o666, dir_fd=self._folder)

    def _make_folder(self, folder: str) -> None:
        if folder in self._folders:
            return
        self._make_folder(os.path.dirname(folder))
        with contextlib.suppress(FileExistsError):
            os.mkdir(self._at(folder), dir_fd=self._folder)
        self._folders.add(folder)

    def put(self, key: str, data: bytes) -> None:
        """Writes a file in place of what was there; a reader sees the old one or the new one."""
        self._make_folder(os.path.dirname(key))
        part = key + ".part"
        file = self._file(part, os.O_CREAT | os.O_TRUNC | os.O_WRONLY)
        try:
            _write_all(file, memoryview(data), None)
        except OSError:
            with contextlib.suppress(OSError):  # on a disk that is full it would only be in the way
                os.unlink(self._at(part), dir_fd=self._folder)
            raise
        finally:
            os.close(file)
        if self._folder is None:
            os.replace(self._at(part), self._at(key))
        else:
            os.rename(part, key, src_dir_fd=self._folder, dst_dir_fd=self._folder)
        self._count(key, len(data))

    def _count(self, key: str, size: int) -> None:
        self.used += size - self._sizes.get(key, 0)
        self._sizes[key] = size

    def put_at(self, key: str, offset: int, data: Any, *, size: int) -> None:
        """Writes part of a file, which has ``size`` bytes from the beginning, zeros at first."""
        file = self._open.pop(key, None)
        if file is None:
            self._make_folder(os.path.dirname(key))
            file = self._file(key, os.O_CREAT | os.O_RDWR)
            if os.fstat(file).st_size != size:
                os.ftruncate(file, size)
            self._count(key, size)
        self._open[key] = file
        if len(self._open) > OPEN_FILES:
            os.close(self._open.popitem(last=False)[1])
        _write_all(file, memoryview(data), offset)

    def done_with(self, key: str) -> None:
        """Closes a file that is full."""
        file = self._open.pop(key, None)
        if file is not None:
            os.close(file)

    def check(self) -> None:
        """Makes sure that the trace is still where it was made.

        Raises:
            StoreReplacedError: it is gone, or something else stands there.
        """
        try:
            there = os.stat(os.path.join(self._path, ".zgroup"))
        except FileNotFoundError:
            there = None
        if there is None or (there.st_dev, there.st_ino) != self._identity:
            what = "is gone" if there is None else "was replaced by another process"
            raise StoreReplacedError(f"the trace {what}")

    def _stat(self, key: str) -> Any:
        found = os.stat(self._at(key), dir_fd=self._folder)
        return found.st_dev, found.st_ino

    def close(self) -> None:
        """Closes every file."""
        self.release()
        while self._open:
            os.close(self._open.popitem()[1])
        if self._folder is not None:
            os.close(self._folder)
            self._folder = None


def _remove(path: str) -> None:
    """Removes a folder that another process may be writing to."""
    aside = f"{path}.removed-{os.getpid()}"
    os.rename(path, aside)
    shutil.rmtree(aside, ignore_errors=True)
    if os.path.lexists(aside):
        # A file was put there meanwhile: a process that still records had it open.
        shutil.rmtree(aside)


def _write_all(file: int, data: memoryview, offset: Optional[int]) -> None:
    data = data.cast("B") if data.nbytes else data
    position = 0
    while position < data.nbytes:
        rest = data[position:]
        if offset is None:
            position += os.write(file, rest)
        elif hasattr(os, "pwrite"):
            position += os.pwrite(file, rest, offset + position)
        else:
            os.lseek(file, offset + position, os.SEEK_SET)
            position += os.write(file, rest)


class RemoteFiles:
    """An object store: files are put as a whole."""

    in_place = False

    def __init__(self, path: str, *, overwrite: bool) -> None:
        self.groups: Set[str] = set()
        self.used = self.waiting = 0
        self._sizes: Dict[str, int] = {}
        self._objects: Dict[str, bytes] = objects_at(path)
        if overwrite:
            self._objects.clear()
        self._objects[".zgroup"] = GROUP

    def put(self, key: str, data: bytes) -> None:
        """Writes an object in place of what was there."""
        self._objects[key] = bytes(data)
        self.used += len(data) - self._sizes.get(key, 0)
        self._sizes[key] = len(data)

    def abandon(self) -> None:
        """Nothing: what was put there stays."""

    def reserve(self) -> None:
        """Nothing: an object store has no end that could be told beforehand."""

    def release(self) -> None:
        """Nothing: nothing was reserved."""

    def done_with(self, key: str) -> None:
        """Nothing: nothing is kept open."""

    def check(self) -> None:
        """Nothing: whether the place is still there shows at the next write."""

    def close(self) -> None:
        """Nothing: nothing is kept open."""


Files = Union[LocalFiles, RemoteFiles]
