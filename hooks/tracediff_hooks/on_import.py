"""Acts on modules right after they have run, before whoever imports them can use them."""

import importlib.abc
import importlib.machinery
import importlib.util
import sys
from types import ModuleType
from typing import Any, Callable, Dict, Optional, Sequence, Set


def when_loaded(actions: Dict[str, Callable[[ModuleType], None]]) -> None:
    """Acts on modules: at once on those that are loaded, on the others when they are."""
    for name, action in actions.items():
        if name in sys.modules:
            action(sys.modules[name])
    sys.meta_path.insert(0, _Finder(actions))


class _Finder(importlib.abc.MetaPathFinder):
    """Lets Python find a module as ever, and acts when it has been loaded."""

    def __init__(self, actions: Dict[str, Callable[[ModuleType], None]]) -> None:
        self._actions = actions
        self._busy: Set[str] = set()

    def find_spec(
        self,
        fullname: str,
        path: Optional[Sequence[str]],  # noqa: ARG002 - Python calls it so
        target: Optional[ModuleType] = None,  # noqa: ARG002 - the same
    ) -> Optional[importlib.machinery.ModuleSpec]:
        action = self._actions.get(fullname)
        if action is None or fullname in self._busy:
            return None
        self._busy.add(fullname)
        try:
            spec = importlib.util.find_spec(fullname)
        finally:
            self._busy.discard(fullname)
        if spec is not None and spec.loader is not None:
            spec.loader = _Loader(spec.loader, action)
        return spec


class _Loader(importlib.abc.Loader):
    """A loader that acts on the module it has run."""

    def __init__(self, loader: Any, action: Callable[[ModuleType], None]) -> None:
        self._loader = loader
        self._action = action

    def create_module(self, spec: Any) -> Any:
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        self._loader.exec_module(module)
        self._action(module)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loader, name)
