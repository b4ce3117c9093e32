"""Imports of the SDK's names: those it has lost are served, and two of its modules patched.

Nothing of the SDK is imported here at pytest's start: `install` puts a finder on
`sys.meta_path`.
"""

from __future__ import annotations

import importlib
import sys
import threading
import weakref
from contextlib import ExitStack
from importlib.abc import Loader
from importlib.machinery import ModuleSpec
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType

MODES = ("auto", "always", "never")
"""What the ini option `channelstub_appengine` may say."""

_CHANNEL = "google.appengine.api.channel"
_ALIASES = {
    _CHANNEL: "channel",
    f"{_CHANNEL}.channel": "channel",
    f"{_CHANNEL}.channel_service_pb": "_service.channel_service_pb",
    f"{_CHANNEL}.channel_service_stub": "_service.stub",
    # For its VoidProto; an SDK that still has the module keeps its own.
    "google.appengine.api.api_base_pb": "_service.channel_service_pb",
}
_PARENTS = ("google", "google.appengine", "google.appengine.api")
_MISSING = object()


class Installation:
    """What `install` did, to be undone once."""

    def __init__(self, mode: str) -> None:
        self.mode = mode

    def undo(self) -> None:
        """Leave everything as it was before `install`; a second call does nothing."""
        if self not in state.installations:
            return
        state.installations.remove(self)
        state.has_no_errors = False
        if all(each.mode == "never" for each in state.installations):
            state.undo.close()


class State:
    """What is installed in this process, and how to take it out again."""

    def __init__(self) -> None:
        self.installations: list[Installation] = []
        # Closed when the last installation is undone.
        self.undo = ExitStack()
        # Whether the SDK's errors were looked up, and are not there.
        self.has_no_errors = False
        # The thread that asks for the SDK itself, which we must not answer.
        self.probing_thread: int | None = None
        # The SDK's own function of that name.
        self.make_sync_call: object = None
        # The maps for which a testbed has switched the service off.
        self.switched_off: weakref.WeakSet[Any] = weakref.WeakSet()
        # The stubs that testbeds have built.
        self.testbeds_own: weakref.WeakSet[Any] = weakref.WeakSet()

    def is_probing(self) -> bool:
        """Whether this thread asks for the SDK itself."""
        return self.probing_thread == threading.get_ident()

    @property
    def mode(self) -> str:
        """The newest installation's."""
        return self.installations[-1].mode if self.installations else "auto"


state = State()
after_import: dict[str, Callable[[Any], None]] = {}
"""What is done to a module of the SDK once it was imported, by its name."""


def install(mode: str = "auto") -> Installation:
    """Offer `google.appengine.api.channel`, and have an SDK's testbed and map know the service.

    Installations nest: the newest one's mode holds, and the last `undo` clears up.

    Example:
        >>> installation = install("auto")
        >>> installation.undo()
    """
    if mode not in MODES:
        raise ValueError(f"the mode is {mode!r}: pass one of {', '.join(map(repr, MODES))}")
    installation = Installation(mode)
    state.installations.append(installation)
    state.has_no_errors = False
    if mode != "never" and _FINDER not in sys.meta_path:
        finders: list[Any] = sys.meta_path
        finders.insert(0, _FINDER)
        state.undo.callback(remove, finders, _FINDER)
        for name in after_import.keys() & sys.modules.keys():
            after_import[name](sys.modules[name])
    return installation


class _Finder:
    """Adds a step to the import of two SDK modules, and answers to the lost names.

    It asks the finders after it first: a real package wins.
    """

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        is_known = name in after_import or name in _ALIASES or name in _PARENTS
        finders = list(sys.meta_path)
        # Another thread may take this finder out while an import is under way.
        if not is_known or state.mode == "never" or self not in finders:
            return None
        later = finders[finders.index(self) + 1 :]
        # As the import system does, which passes over finders of the old kind.
        finds = (each.find_spec for each in later if hasattr(each, "find_spec"))
        specs = (find_spec(name, path, target) for find_spec in finds)
        spec = next((each for each in specs if each is not None), None)
        if spec is not None:
            if name in after_import and spec.loader is not None:
                spec.loader = _WatchedLoader(spec.loader)
        elif name in _ALIASES:
            spec = ModuleSpec(name, _AliasLoader(), is_package=name == _CHANNEL)
        elif name in _PARENTS and state.mode == "always" and not state.is_probing():
            spec = ModuleSpec(name, None, is_package=True)
            _forget_later(name, lambda module: module.__spec__ is spec)
        return spec


class _AliasLoader(Loader):
    """Has a module of ours serve under a second name, as the same object.

    The import machinery writes the second name's spec into the module, which would
    mislead `importlib.reload`; it is put back.
    """

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        module = importlib.import_module(f"pytest_channelstub.{_ALIASES[spec.name]}")
        spec.loader_state = module.__spec__
        if spec.submodule_search_locations is not None:
            remember(module, "__path__")
        return module

    def exec_module(self, module: ModuleType) -> None:
        spec: Any = module.__spec__
        module.__spec__ = spec.loader_state
        _forget_later(spec.name, lambda served: served is module)
        if spec.name == _CHANNEL:
            # `from google.appengine.api.channel import x` looks for x among the
            # submodules of the module's own name, where these are not.
            for name in _ALIASES:
                importlib.import_module(name)


class _WatchedLoader(Loader):
    """Loads as the loader given does, which it puts back, and then takes the added step."""

    def __init__(self, loader: Loader) -> None:
        self._loader = loader

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        spec: Any = module.__spec__
        spec.loader = module.__loader__ = self._loader
        self._loader.exec_module(module)
        after_import[spec.name](module)


def _forget_later(name: str, is_ours: Callable[[ModuleType], bool]) -> None:
    """Have the last `undo` take a module away, and its name out of its parent."""

    def undo() -> None:
        if name in sys.modules and is_ours(sys.modules[name]):
            del sys.modules[name]

    parent, _, tail = name.rpartition(".")
    if parent in sys.modules:
        remember(sys.modules[parent], tail)
    state.undo.callback(undo)


def remember(owner: Any, name: str) -> None:
    """Have the last `undo` give an attribute the value that it has now, or none."""
    before = vars(owner).get(name, _MISSING)

    def undo() -> None:
        if before is not _MISSING:
            setattr(owner, name, before)
        elif name in vars(owner):
            delattr(owner, name)

    state.undo.callback(undo)


def replace(owner: Any, name: str, value: object) -> None:
    """Give an attribute another value until the last `undo`."""
    remember(owner, name)
    setattr(owner, name, value)


def remove(values: list[Any], value: object) -> None:
    """Take a value out of a list, if it is there."""
    if value in values:
        values.remove(value)


_FINDER = _Finder()
