"""All that is known about an installed App Engine SDK, and nowhere else.

Nothing of the SDK is imported here at any start-up: `install` puts two finders on
`sys.meta_path`, and what is asked of the SDK later is first looked up in `sys.modules`.
"""

from __future__ import annotations

import functools
import importlib
import sys
import threading
import weakref
from bisect import insort
from importlib.abc import Loader
from importlib.machinery import ModuleSpec
from typing import TYPE_CHECKING, Any

from pytest_channelstub import apiproxy_errors
from pytest_channelstub._service import apiproxy

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import ModuleType

MODES = ("auto", "always", "never")
"""What the ini option `channelstub_appengine` may say."""

_SERVICE = "channel"
_CHANNEL = "google.appengine.api.channel"
_ALIASES = {
    _CHANNEL: "channel",
    f"{_CHANNEL}.channel": "channel",
    f"{_CHANNEL}.channel_service_pb": "_service.channel_service_pb",
    f"{_CHANNEL}.channel_service_stub": "_service.stub",
}
_PARENTS = ("google", "google.appengine", "google.appengine.api")
MAP = "google.appengine.api.apiproxy_stub_map"
"""The module whose map the SDK's calls go through."""
_REQUEST_INFO = "google.appengine.api.request_info"
_TESTBED = "google.appengine.ext.testbed"
_ERRORS = "google.appengine.runtime.apiproxy_errors"
_BRIDGE = "google.appengine.runtime.default_api_stub"

_MISSING = object()


class Installation:
    """What `install` did, to be undone once.

    Attributes:
        mode: One of `MODES`.
    """

    __slots__ = ("mode",)

    # Every run of pytest makes this class, and a dataclass takes longer than all else here.
    def __init__(self, mode: str) -> None:
        self.mode = mode

    def undo(self) -> None:
        """Leave everything as it was before `install`; a second call does nothing."""
        if self not in _state.installations:
            return
        _state.installations.remove(self)
        _state.errors_absent = False
        if all(each.mode == "never" for each in _state.installations):
            while _state.undo:
                _state.undo.pop()()


class _State:
    """What is installed in this process, and how to take it out again."""

    def __init__(self) -> None:
        self.installations: list[Installation] = []
        self.undo: list[Callable[[], object]] = []
        self.errors_absent = False
        self.probing_thread: int | None = None
        self.make_sync_call: object = None
        self.switched_off: weakref.WeakSet[Any] = weakref.WeakSet()
        self.testbeds_own: weakref.WeakSet[Any] = weakref.WeakSet()

    @property
    def mode(self) -> str:
        return self.installations[-1].mode if self.installations else "auto"

    def is_probing(self) -> bool:
        """Whether this thread asks for the SDK itself, which we must not answer."""
        return self.probing_thread == threading.get_ident()


_state = _State()


def install(mode: str = "auto") -> Installation:
    """Offer `google.appengine.api.channel`, and have an SDK's testbed and map know the service.

    Installations nest: the newest one's mode holds, and the last `undo` clears up.

    Example:
        >>> installation = install("auto")
        >>> installation.undo()

    Args:
        mode: `"auto"`: where an SDK is installed. `"always"`: also without one.
            `"never"`: nothing is touched.

    Raises:
        ValueError: `mode` is none of these.
    """
    if mode not in MODES:
        message = f"the mode is {mode!r}: pass one of {', '.join(map(repr, MODES))}"
        raise ValueError(message)
    installation = Installation(mode)
    _state.installations.append(installation)
    _state.errors_absent = False
    if mode != "never" and _FINDER not in sys.meta_path:
        _attach()
    return installation


def installed_errors() -> Any | None:
    """The module of an installed SDK that defines the errors of a call, or None.

    The first question imports it; an answer of "not installed" holds until the next
    `install` or `undo`.
    """
    if _state.mode == "never":
        return None
    module = sys.modules.get(_ERRORS)
    if module is not None or _state.errors_absent:
        return module
    _state.probing_thread = threading.get_ident()
    try:
        return importlib.import_module(_ERRORS)
    except ImportError:
        _state.errors_absent = True
        return None
    finally:
        _state.probing_thread = None


def proxy_map() -> Any | None:
    """What a channel call has to be made on where it goes through the SDK; else None.

    That is the SDK's module, whose `MakeSyncCall` goes to the current map and runs its
    hooks, and which suites replace. A call goes there where the map has a channel stub,
    where a testbed has switched the service off (the map then refuses it in the SDK's
    own words), and where `MakeSyncCall` is replaced.
    """
    module: Any = sys.modules.get(MAP)
    if module is None or _state.mode == "never":
        return None
    current = getattr(module, "apiproxy", None)
    stub = None if current is None else current.GetStub(_SERVICE)
    if stub is not None and type(stub).__module__ != _BRIDGE:
        return module
    is_replaced = module.MakeSyncCall is not _state.make_sync_call is not None
    return module if is_replaced or current in _state.switched_off else None


def is_silent_request_data(request_data: object) -> bool:
    """Whether the dispatcher of this request data only warns, and loses what it is given.

    So does the one that the SDK gives its own stubs by default; None has no dispatcher.
    """
    module: Any = sys.modules.get(_REQUEST_INFO)
    if module is None or _state.mode == "never":
        return request_data is None
    local, silent = module._LocalRequestInfo, module._LocalFakeDispatcher
    if not isinstance(request_data, local):
        return request_data is None
    return type(request_data.get_dispatcher()) is silent


class _Finder:
    """Answers to the lost names, after all other finders: a real package wins."""

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        is_parent = name in _PARENTS and _state.mode == "always" and not _state.is_probing()
        if not (is_parent or name in _ALIASES) or _state.mode == "never":
            return None
        found = _found_by_others(self, name, path, target)
        if found is not None or is_parent:
            return found or _namespace(name)
        return ModuleSpec(name, _AliasLoader(), is_package=name == _CHANNEL)


class _AliasLoader(Loader):
    """Has a module of ours serve under a second name, as the same object.

    The import machinery writes the second name's spec into the module, which would
    mislead `importlib.reload`; it is put back.
    """

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        module: ModuleType = _ours(_ALIASES[spec.name])
        spec.loader_state = module.__spec__
        if spec.submodule_search_locations is not None:
            _remember(module, "__path__")
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


class _Watcher:
    """Stands before all other finders and adds a step to the import of two SDK modules."""

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name not in _AFTER_IMPORT or _state.mode == "never":
            return None
        spec = _found_by_others(self, name, path, target)
        if spec is not None and spec.loader is not None:
            spec.loader = _WatchedLoader(spec.loader)
        return spec


class _WatchedLoader(Loader):
    """Loads as the loader given does, which it puts back, and then takes the added step."""

    def __init__(self, loader: Any) -> None:
        self._loader = loader

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        module: ModuleType | None = self._loader.create_module(spec)
        return module

    def exec_module(self, module: ModuleType) -> None:
        spec: Any = module.__spec__
        spec.loader = module.__loader__ = self._loader
        self._loader.exec_module(module)
        _AFTER_IMPORT[spec.name](module)


def _found_by_others(
    asking: object, name: str, path: Sequence[str] | None, target: ModuleType | None
) -> ModuleSpec | None:
    finders = [*sys.meta_path]
    specs = (each.find_spec(name, path, target) for each in finders if each is not asking)
    return next((spec for spec in specs if spec is not None), None)


def _attach() -> None:
    finders: list[Any] = sys.meta_path
    finders.insert(0, _WATCHER)
    finders.append(_FINDER)
    for finder in (_WATCHER, _FINDER):
        _state.undo.append(functools.partial(_remove, finders, finder))
    for name, patch in _AFTER_IMPORT.items():
        if name in sys.modules:
            patch(sys.modules[name])


def _namespace(name: str) -> ModuleSpec:
    spec = ModuleSpec(name, None, is_package=True)
    _forget_later(name, lambda module: module.__spec__ is spec)
    return spec


def _forget_later(name: str, is_ours: Callable[[ModuleType], bool]) -> None:
    """Have the last `undo` take a module away, and its name out of its parent."""

    def undo() -> None:
        if name in sys.modules and is_ours(sys.modules[name]):
            del sys.modules[name]

    parent, _, tail = name.rpartition(".")
    if parent in sys.modules:
        _remember(sys.modules[parent], tail)
    _state.undo.append(undo)


def _remember(owner: Any, name: str) -> None:
    """Have the last `undo` give an attribute the value that it has now, or none."""
    before = vars(owner).get(name, _MISSING)

    def undo() -> None:
        if before is not _MISSING:
            setattr(owner, name, before)
        elif name in vars(owner):
            delattr(owner, name)

    _state.undo.append(undo)


def _replace(owner: Any, name: str, value: object) -> None:
    _remember(owner, name)
    setattr(owner, name, value)


def _remove(values: list[Any], value: object) -> None:
    if value in values:
        values.remove(value)


def _patch_map(module: Any) -> None:
    """Have the SDK's current map find the stub in force where it has none of its own.

    It is looked up at each call rather than registered: so it never stands in the way
    of a `RegisterStub`, is there in a map made during the test, and leaves no trace.
    """
    original = module.APIProxyStubMap.GetStub
    if getattr(original, "__module__", None) == __name__:
        return
    _state.make_sync_call = module.MakeSyncCall

    def GetStub(self: Any, service: str) -> Any:
        own = getattr(self, "_APIProxyStubMap__stub_map", ())
        if service != _SERVICE or _SERVICE in own or not _is_open(module, self):
            return original(self, service)
        stub = _ours("_service.apiproxy").active_stub()
        return original(self, service) if stub is None else stub

    _replace(module.APIProxyStubMap, "GetStub", GetStub)


def _is_open(module: Any, stub_map: object) -> bool:
    is_current = stub_map is getattr(module, "apiproxy", None)
    return is_current and stub_map not in _state.switched_off and _state.mode != "never"


def _ours(name: str) -> Any:
    """A module of ours, as `from pytest_channelstub import name` finds it.

    In a process in which pytester has run, `sys.modules` may lack what our modules hold.
    """
    return importlib.import_module(f"pytest_channelstub.{name}")


def _patch_testbed(module: Any) -> None:
    """Give testbed back what it had: an SDK that has the channel service keeps its own."""
    methods = module.INIT_STUB_METHOD_NAMES
    if _SERVICE in methods:
        return
    methods[_SERVICE] = "init_channel_stub"
    insort(module.SUPPORTED_SERVICES, _SERVICE)
    _state.undo.append(functools.partial(methods.pop, _SERVICE, None))
    _state.undo.append(functools.partial(_remove, module.SUPPORTED_SERVICES, _SERVICE))
    _replace(module.Testbed, "init_channel_stub", _init_channel_stub)
    _replace(module.Testbed, "_register_stub", _registering(module.Testbed._register_stub))


def _init_channel_stub(self: Any, enable: bool = True) -> None:
    """Enable the channel stub, or have calls of the service fail.

    Args:
        self: The `Testbed`.
        enable: True: the stub of a `channel_stub` fixture, else one on the system clock.

    Raises:
        NotActivatedError: The testbed is not activated.
    """
    self._disable_stub(_SERVICE)
    if not enable:
        _state.switched_off.add(self._test_stub_map)
        return
    stub = _ours("_service.apiproxy").active_stub()
    if stub is None or stub in _state.testbeds_own:
        stub = _ours("_service.stub").ChannelServiceStub()
        _state.testbeds_own.add(stub)
        self._register_stub(_SERVICE, stub, type(stub).close)
    else:
        # A testbed may outlive the stub that it was lent, and the other way round.
        take_out = functools.partial(self._disable_stub, _SERVICE)
        stub._closing.append(take_out)
        self._register_stub(_SERVICE, stub, lambda stub: _remove(stub._closing, take_out))
    _state.switched_off.discard(self._test_stub_map)


def _registering(original: Callable[..., object]) -> Callable[..., object]:
    """Testbed registers subclasses of the SDK's stub only; ours are none."""

    @functools.wraps(original)
    def _register_stub(self: Any, service_name: str, stub: Any, *args: Any, **kwargs: Any) -> None:
        original(self, service_name, stub, *args, **kwargs)
        if isinstance(stub, _ours("_service.apiproxy").APIProxyStub):
            self._test_stub_map.RegisterStub(service_name, stub)

    return _register_stub


_AFTER_IMPORT: dict[str, Callable[[Any], None]] = {MAP: _patch_map, _TESTBED: _patch_testbed}
_FINDER = _Finder()
_WATCHER = _Watcher()


class _InstalledSDK(apiproxy.SDK):
    """What the core asks of an installed SDK."""

    def proxy_map(self, service: str) -> Any:
        return proxy_map()

    def stub(self, service: str) -> Any:
        module: Any = sys.modules.get(MAP)
        if module is None or proxy_map() is None:
            return None
        return module.apiproxy.GetStub(service)

    def is_silent_request_data(self, request_data: object) -> bool:
        return is_silent_request_data(request_data)


apiproxy_errors._installed = installed_errors
apiproxy.registry.sdk = _InstalledSDK()
