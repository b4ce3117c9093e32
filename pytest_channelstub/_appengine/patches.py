"""What an installed SDK is made to know of the channel service, and what is asked of it.

What is asked is looked up in `sys.modules`: a test that does not use the SDK imports
nothing of it.
"""

from __future__ import annotations

import functools
import importlib
import sys
import threading
import traceback
from bisect import insort
from typing import Any

from pytest_channelstub import apiproxy_errors
from pytest_channelstub._appengine.importing import after_import, remove, replace, state
from pytest_channelstub._service.registry import SDK, active_stub, registry

_SERVICE = "channel"
_MAP = "google.appengine.api.apiproxy_stub_map"
_REQUEST_INFO = "google.appengine.api.request_info"
_TESTBED = "google.appengine.ext.testbed"
_ERRORS = "google.appengine.runtime.apiproxy_errors"
_BRIDGE = "google.appengine.runtime.default_api_stub"
_WITHOUT_SDK = (
    "No App Engine SDK is installed. channelstub_appengine = always in the ini file serves "
    "google.appengine.api.channel without one; pip install 'pytest-channelstub[appengine]' brings "
    "one, with its testbed."
)


class InstalledSDK(SDK):
    """What the core asks of an installed SDK."""

    def proxy_map(self, service: str) -> Any:
        """The SDK's module where a call has to go through it; else None.

        Its `MakeSyncCall` goes to the current map and runs its hooks, and suites replace
        it. A call goes there where the map has a stub of the service, where a testbed has
        switched the service off (the map then refuses it in the SDK's own words), and
        where `MakeSyncCall` is replaced.
        """
        module, stub = _loaded(_MAP), self.stub(service)
        if module is None:
            return None
        has_stub = stub is not None and type(stub).__module__ != _BRIDGE
        ours = state.make_sync_call
        is_replaced = ours is not None and module.MakeSyncCall is not ours
        is_switched_off = getattr(module, "apiproxy", None) in state.switched_off
        return module if has_stub or is_replaced or is_switched_off else None

    def stub(self, service: str) -> Any:
        """The stub that the SDK's current map has for a service, or None."""
        current = getattr(_loaded(_MAP), "apiproxy", None)
        return None if current is None else current.GetStub(service)

    def is_silent_request_data(self, request_data: object) -> bool:
        """Whether this is None, or has the no-op dispatcher that the SDK gives its own stubs."""
        module = _loaded(_REQUEST_INFO)
        if module is None or not isinstance(request_data, module._LocalRequestInfo):
            return request_data is None
        return type(request_data.get_dispatcher()) is module._LocalFakeDispatcher


def find_errors() -> Any | None:
    """The module with an installed SDK's errors of a call; None holds until `install` or `undo`."""
    if state.mode == "never":
        return None
    module = sys.modules.get(_ERRORS)
    if module is not None or state.has_no_errors:
        return module
    state.probing_thread = threading.get_ident()
    try:
        return importlib.import_module(_ERRORS)
    except ImportError:
        state.has_no_errors = True
        return None
    finally:
        state.probing_thread = None


def explain_missing_sdk(error: BaseException | None) -> str:
    """What to do about an import that has failed for want of an SDK; empty for other errors."""
    seen: set[int] = set()  # `raise error from error` is its own cause
    while error is not None and id(error) not in seen:
        if isinstance(error, ImportError) and _is_of_sdk(error):
            has_none = state.mode != "never" and find_errors() is None
            return _WITHOUT_SDK if has_none else ""
        seen.add(id(error))
        error = error.__cause__
    return ""


def _is_of_sdk(error: ImportError) -> bool:
    lines = [frame.line or "" for frame in traceback.extract_tb(error.__traceback__)]
    is_named = error.name == "google" or f"{error.name}.".startswith("google.appengine.")
    return is_named and any("google.appengine" in line for line in lines)


def _loaded(name: str) -> Any:
    """A module of the SDK, if it was imported and we are to know of the SDK."""
    return None if state.mode == "never" else sys.modules.get(name)


def _patch_map(module: Any) -> None:
    """Have the SDK's current map find the active stub where it has none of its own.

    It is looked up at each call rather than registered: so it does not block
    a `RegisterStub`, is there in a map made during the test, and leaves no trace.
    """
    original = module.APIProxyStubMap.GetStub
    if getattr(original, "__module__", None) == __name__:
        return
    state.make_sync_call = module.MakeSyncCall

    def GetStub(self: Any, service: str) -> Any:
        is_current = self is getattr(module, "apiproxy", None)
        is_open = is_current and self not in state.switched_off and state.mode != "never"
        own = getattr(self, "_APIProxyStubMap__stub_map", ())
        stub = active_stub(service) if is_open and service not in own else None
        return original(self, service) if stub is None else stub

    replace(module.APIProxyStubMap, "GetStub", GetStub)


def _patch_testbed(module: Any) -> None:
    """Give testbed back what it had: an SDK that has the channel service keeps its own."""
    methods = module.INIT_STUB_METHOD_NAMES
    if _SERVICE in methods:
        return
    methods[_SERVICE] = "init_channel_stub"
    insort(module.SUPPORTED_SERVICES, _SERVICE)
    state.undo.callback(methods.pop, _SERVICE, None)
    state.undo.callback(remove, module.SUPPORTED_SERVICES, _SERVICE)
    replace(module.Testbed, "init_channel_stub", _init_channel_stub)
    register = module.Testbed._register_stub

    @functools.wraps(register)
    def _register_stub(self: Any, service_name: str, stub: Any, *args: Any, **kwargs: Any) -> None:
        register(self, service_name, stub, *args, **kwargs)
        # testbed puts only subclasses of the SDK's stub into the map.
        from pytest_channelstub._service.apiproxy import APIProxyStub  # noqa: PLC0415 (only with a testbed)

        if isinstance(stub, APIProxyStub):
            self._test_stub_map.RegisterStub(service_name, stub)

    replace(module.Testbed, "_register_stub", _register_stub)


def _init_channel_stub(self: Any, enable: bool = True) -> None:
    """Enable the channel stub, or have calls of the service fail."""
    from pytest_channelstub._service.stub import ChannelServiceStub  # noqa: PLC0415 (at pytest's start it costs 20 ms)

    self._disable_stub(_SERVICE)
    if not enable:
        state.switched_off.add(self._test_stub_map)
        return
    stub = active_stub()
    if stub is None or stub in state.testbeds_own:
        stub = ChannelServiceStub()
        state.testbeds_own.add(stub)
        self._register_stub(_SERVICE, stub, type(stub).close)
    else:
        # A testbed may outlive the stub that it was lent, and the other way round.
        take_out = functools.partial(self._disable_stub, _SERVICE)
        stub._closing.append(take_out)
        self._register_stub(_SERVICE, stub, lambda stub: remove(stub._closing, take_out))
    state.switched_off.discard(self._test_stub_map)


after_import.update({_MAP: _patch_map, _TESTBED: _patch_testbed})
apiproxy_errors._installed = find_errors
registry.sdk = InstalledSDK()
