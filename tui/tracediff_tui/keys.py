"""What is made of the registry of keys: bindings, the footer, the help on `?` and docs/tui.md."""

from __future__ import annotations

from textual.binding import Binding, BindingsMap, BindingType

from tracediff_tui.registry import KEYS, Key


def key_of(name: str) -> Key:
    """Return the key that is called so in the code."""
    return next(key for key in KEYS if key.id == name)


def keys_of(screen: str) -> tuple[Key, ...]:
    """Return the keys that work on a screen, in the order of the registry."""
    return tuple(key for key in KEYS if screen in key.screens)


def normal(keys: str) -> str:
    """Return keys, commas between, by the names that Textual knows them by.

    Example:
        >>> normal("?,ctrl+d")
        'question_mark,ctrl+d'
    """
    return ",".join(BindingsMap([(keys, "", "")]).key_to_bindings)


def bindings_of(screen: str) -> list[BindingType]:
    """Return the keys of a screen as Textual's bindings."""
    return [
        Binding(key.keys, key.action, key.label, id=f"{screen}.{key.id}", show=False)
        for key in keys_of(screen)
    ]


def footer_of(screen: str) -> tuple[Key, ...]:
    """Return the keys that a screen's footer names, the most wanted first."""
    return tuple(sorted((key for key in keys_of(screen) if key.rank), key=lambda key: key.rank))
