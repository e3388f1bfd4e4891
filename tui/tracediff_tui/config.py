"""The user's own settings of the interface: a theme, and other keys for what it can do."""

from __future__ import annotations

import difflib
import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from platformdirs import user_config_path

from tracediff.errors import UsageError
from tracediff_tui.keys import keys_of, normal
from tracediff_tui.registry import KEYS, TITLES, Key

VARIABLE = "TRACEDIFF_CONFIG"
"""The environment variable that names another file."""


@dataclass(frozen=True, slots=True)
class Config:
    """What the user set.

    Attributes:
        theme: A theme of Textual's, or None.
        keys: By `Key.id`, the keys that stand in for those of the registry, commas between.
    """

    theme: str | None = None
    keys: Mapping[str, str] = field(default_factory=dict)

    def shown(self, key: Key) -> str:
        """Return a key as a reader knows it.

        Example:
            >>> [following] = [key for key in KEYS if key.id == "next"]
            >>> Config().shown(following), Config(keys={"next": "s,ctrl+d"}).shown(following)
            ('n', 's Ctrl+D')
        """
        own = self.keys.get(key.id)
        return key.shown if own is None else " ".join(map(_titled, own.split(",")))

    def keymap(self) -> dict[str, str]:
        """Return the keys as Textual wants them: by the id of each binding of each screen."""
        return {
            f"{screen}.{id_}": keys
            for id_, keys in self.keys.items()
            for screen in TITLES
            if any(key.id == id_ for key in keys_of(screen))
        }


def config_path() -> Path:
    """Return where the user's settings are looked for, whether or not there are any."""
    named = os.environ.get(VARIABLE)
    return Path(named) if named else user_config_path("tracediff", appauthor=False) / "tui.toml"


def read_config(path: Path | None = None) -> Config:
    """Read the user's settings; without a file there are none.

    Raises:
        UsageError: The file cannot be read, or says what makes no sense.
    """
    found = config_path() if path is None else path
    try:
        text = found.read_text("utf-8")
    except FileNotFoundError:
        if os.environ.get(VARIABLE) and path is None:
            raise UsageError(
                f"{VARIABLE} names {found}, which is not there", hint=f"unset {VARIABLE}"
            ) from None
        return Config()
    except (OSError, UnicodeDecodeError) as problem:
        raise UsageError(f"{found} cannot be read: {problem}") from None
    try:
        read = tomllib.loads(text)
    except tomllib.TOMLDecodeError as problem:
        raise UsageError(f"{found} is no TOML: {problem}") from None
    return _checked(read, found)


def _checked(read: Mapping[str, Any], path: Path) -> Config:
    odd = sorted(set(read) - {"theme", "keys"})
    if odd:
        raise UsageError(f"{path} sets {odd[0]}", hint="it may set theme, and a table of keys")
    theme, table = read.get("theme"), read.get("keys", {})
    if theme is not None and not isinstance(theme, str):
        raise UsageError(f"{path} sets theme to {theme!r}", hint="expected a name between quotes")
    if not isinstance(table, dict):
        raise UsageError(f"{path} sets keys to {table!r}", hint='expected [keys], then next = "s"')
    known = {key.id for key in KEYS}
    for name, keys in table.items():
        if name not in known:
            near = difflib.get_close_matches(name, known, 3)
            raise UsageError(
                f"{path} sets a key for {name}, which there is not",
                hint=f"did you mean {' or '.join(near)}?" if near else "see docs/tui.md for names",
            )
        if not isinstance(keys, str) or not keys or not all(keys.split(",")):
            raise UsageError(
                f"{path} sets the key of {name} to {keys!r}",
                hint='expected keys with commas between, such as "s" or "f3,ctrl+d"',
            )
    config = Config(theme, {name: normal(keys) for name, keys in table.items()})
    _no_two_meanings(config, path)
    return config


def _no_two_meanings(config: Config, path: Path) -> None:
    for screen, title in TITLES.items():
        taken: dict[str, str] = {}
        for key in keys_of(screen):
            for one in config.keys.get(key.id, key.keys).split(","):
                other = taken.setdefault(one, key.id)
                if other != key.id:
                    raise UsageError(
                        f"{path} gives {_titled(one)} two meanings on the screen {title}: "
                        f"{other} and {key.id}",
                        hint="set another key for one of them",
                    )


def _titled(key: str) -> str:
    names = {"question_mark": "?", "slash": "/", "full_stop": ".", "comma": ",", "space": "Space"}
    *held, last = key.split("+")
    last = names.get(last, last)
    last = last.upper() if held and len(last) == 1 else last if len(last) == 1 else last.title()
    return "+".join([*(word.title() for word in held), last])
