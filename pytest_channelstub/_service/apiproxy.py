"""What every App Engine stub has, and which one is in force."""

from __future__ import annotations

import functools
import itertools
import random
import sys
import threading
import weakref
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, Protocol, TypeVar

from pytest_channelstub import apiproxy_errors
from pytest_channelstub._service import witness

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

# A failure points at the line of the test, not at ours.
__tracebackhide__ = True

MAX_REQUEST_SIZE = 1 << 20
"""The largest request that a stub takes, in bytes: 1 MiB."""

# Of so many calls the method's name is remembered; no service has as many.
_MOST_NAMES = 64

_Arguments = ParamSpec("_Arguments")
_Result = TypeVar("_Result")
_Stub = TypeVar("_Stub", bound="APIProxyStub")


class Failing(Protocol):
    """An error that calls raise: `call` is the only one concerned, or None for all."""

    @property
    def error(self) -> Any: ...  # noqa: D102 (told above)
    @property
    def call(self) -> str | None: ...  # noqa: D102 (told above)
    @property
    def rate(self) -> float: ...  # noqa: D102 (told above)


class RPC:
    """One call of a stub, made now and asked about later.

    Every argument can be given here or to `MakeCall`.

    Args:
        package: The service's name.
        call: The call's name.
        request: The request message.
        response: The message that takes the answer.
        callback: Called without arguments when the call has ended, well or not.
        deadline: Kept for the app to read; a stub answers at once.
        stub: The stub that answers.
    """

    IDLE = 0
    RUNNING = 1
    FINISHING = 2

    def __init__(  # noqa: PLR0913, PLR0917 (the SDK's signature)
        self,
        package: str | None = None,
        call: str | None = None,
        request: Any = None,
        response: Any = None,
        callback: Callable[[], object] | None = None,
        deadline: float | None = None,
        stub: APIProxyStub | None = None,
    ) -> None:
        self.package = package
        self.call = call
        self.request = request
        self.response = response
        self.callback = callback
        self.deadline = deadline
        self.stub = stub
        self._state = RPC.IDLE
        self._exception: Exception | None = None

    @property
    def state(self) -> int:
        """`IDLE`, `RUNNING` or `FINISHING`."""
        return self._state

    @property
    def exception(self) -> Exception | None:
        """What the call or its callback raised, or None."""
        return self._exception

    def MakeCall(  # noqa: PLR0913, PLR0917 (the SDK's signature)
        self,
        package: str | None = None,
        call: str | None = None,
        request: Any = None,
        response: Any = None,
        callback: Callable[[], object] | None = None,
        deadline: float | None = None,
    ) -> None:
        """Make the call. What is given here goes before what the constructor was given.

        Raises:
            AssertionError: The call was made already, or has no stub to go to.
        """
        if self._state != RPC.IDLE or self.stub is None:
            reason = "has no stub" if self.stub is None else "has already been started"
            message = f"RPC for {package or self.package}.{call or self.call} {reason}"
            raise AssertionError(message)
        self.package = package or self.package
        self.call = call or self.call
        self.request = self.request if request is None else request
        self.response = self.response if response is None else response
        self.callback = callback or self.callback
        self.deadline = deadline or self.deadline
        self._state = RPC.RUNNING
        self._attempt(self._send)
        self._state = RPC.FINISHING
        if self.callback is not None:
            self._attempt(self.callback)

    def Wait(self) -> None:
        """Wait until the call has ended; a stub's has when `MakeCall` returns.

        Raises:
            AssertionError: The call was never made.
        """
        if self._state == RPC.IDLE:
            message = f"RPC for {self.package}.{self.call} was not started: call MakeCall() first"
            raise AssertionError(message)

    def CheckSuccess(self) -> None:
        """Raise what the call or its callback raised, if anything."""
        if self._exception is not None:
            raise self._exception

    def _send(self) -> None:
        assert self.stub is not None  # noqa: S101 (MakeCall has looked)
        self.stub.MakeSyncCall(self.package or "", self.call or "", self.request, self.response)

    def _attempt(self, step: Callable[[], object]) -> None:
        try:
            step()
        except Exception as error:  # noqa: BLE001 (kept for CheckSuccess, which raises it)
            self._exception = error


class APIProxyStub:
    """The base of a service's stub.

    A subclass defines `_Dynamic_<call>(request, response)` for every call it answers.

    Args:
        service_name: The only service whose calls it takes.
        max_request_size: The largest request, in bytes.
        request_data: Gives access to the app's dispatcher: `request_data.get_dispatcher()`.

    Attributes:
        request_data: As given.
        failing: Errors that calls raise beside what `SetError` has set; the first that
            concerns a call, and whose chance comes up, is raised.
    """

    _ACCEPTS_REQUEST_ID = False
    THREADSAFE = False

    def __init__(
        self,
        service_name: str,
        max_request_size: int = MAX_REQUEST_SIZE,
        request_data: Any = None,
    ) -> None:
        self.request_data = request_data
        self._service_name = service_name
        self._max_request_size = max_request_size
        self._mutex = threading.RLock()
        # By call; None is for all of them.
        self._errors: dict[str | None, tuple[Any, float]] = {}
        self.failing: Sequence[Failing] = ()

    @functools.cached_property
    def random(self) -> random.Random:
        """The stub's own generator: the global one is never touched."""
        return random.Random()  # noqa: S311 (for tests, not for secrets)

    def CreateRPC(self) -> RPC:
        """An `RPC` that this stub will answer."""
        return RPC(stub=self)

    def CheckRequest(self, service: str, call: str, request: Any) -> None:
        """Refuse a call that no service would take.

        Raises:
            AssertionError: The service is another one, or a required field is missing.
            RequestTooLargeError: The request is over the limit.
        """
        if service != self._service_name:
            message = f'Expected "{self._service_name}" service name, was "{service}"'
            raise AssertionError(message)
        size = request.ByteSize()
        if size > self._max_request_size:
            message = (
                f"The request to API call {service}.{call}() was too large: {size} bytes, "
                f"and at most {self._max_request_size} are allowed."
            )
            raise apiproxy_errors.RequestTooLargeError(message)
        if not request.IsInitialized():
            missing: list[str] = []
            request.IsInitialized(missing)
            message = f"The request to API call {service}.{call}() is incomplete: {missing}"
            raise AssertionError(message)

    def MakeSyncCall(
        self, service: str, call: str, request: Any, response: Any, request_id: str | None = None
    ) -> None:
        """Make a call and wait for its answer, which goes into `response`.

        Args:
            service: The service's name.
            call: The call's name, such as `CreateChannel`.
            request: The request message.
            response: The message that takes the answer.
            request_id: Which of the app's requests makes the call, for stubs that ask.

        Raises:
            AssertionError: The service is another one, or a required field is missing.
            RequestTooLargeError: The request is over 1 MiB.
            CallNotFoundError: The service has no such call.
            Error: What `SetError` has set, or what the call itself raises.
        """
        self.CheckRequest(service, call, request)
        if self._errors or self.failing:
            self._fail_as_set(call, request)
        method = getattr(self, _NAMES[call] if type(call) is str else "_Dynamic_" + call, None)
        if method is None:
            known = [name[9:] for name in dir(self) if name.startswith("_Dynamic_")]
            message = (
                f"The service {service!r} has no call {call!r}: it has {', '.join(sorted(known))}"
            )
            raise apiproxy_errors.CallNotFoundError(message)
        if self._ACCEPTS_REQUEST_ID:
            method(request, response, request_id)
        else:
            method(request, response)

    def SetError(self, error: Any, method: str | None = None, error_rate: float = 1) -> None:
        """Have calls fail from now on, as the SDK's stubs do.

        Args:
            error: An `apiproxy_errors.Error`, or None to lift the error set for all calls.
            method: The only call to fail, such as `SendChannelMessage`. Its error is
                lifted by a rate of 0; None for all calls.
            error_rate: The chance that a call fails, from 0 to 1.

        Raises:
            AssertionError: `error` is not such an error.
            ValueError: `error_rate` is not from 0 to 1.
        """
        if not (error is None or isinstance(error, apiproxy_errors.Error)):
            message = (
                f"{error!r} is no error of an App Engine call: pass an instance of "
                "apiproxy_errors.Error, or None"
            )
            raise AssertionError(message)
        if not 0 <= error_rate <= 1:
            message = f"error_rate is {error_rate!r}: pass a number from 0 to 1"
            raise ValueError(message)
        if method and error:
            self._errors[method] = (error, error_rate)
        elif error is None:
            self._errors.pop(None, None)
        else:
            self._errors[None] = (error, error_rate)

    def _fail_as_set(self, call: str, request: Any) -> None:
        set_for_all = (rule for rule in map(self._errors.get, (call, None)) if rule)
        beside = ((rule.error, rule.rate) for rule in self.failing if rule.call in (None, call))
        for error, rate in itertools.chain(set_for_all, beside):
            if rate >= 1 or self.random.random() < rate:
                self._failing(call, request, error)
                # One instance is raised many times: its traceback would grow, and keep
                # alive what the frames of earlier calls held.
                raise error.with_traceback(None)

    def _failing(self, call: str, request: Any, error: Any) -> None:
        """For stubs that note which of their calls fail."""


def Synchronized(
    method: Callable[Concatenate[_Stub, _Arguments], _Result],
) -> Callable[Concatenate[_Stub, _Arguments], _Result]:
    """Hold a stub's `_mutex` while `method` runs, for stubs of one's own."""

    @functools.wraps(method)
    def synchronized(
        self: _Stub, /, *args: _Arguments.args, **kwargs: _Arguments.kwargs
    ) -> _Result:
        with self._mutex:
            return method(self, *args, **kwargs)

    return synchronized


class _Names(dict[str, str]):
    """The methods' names of calls. An interned name is found at once, a new one is not."""

    def __missing__(self, call: str) -> str:
        name = sys.intern(f"_Dynamic_{call}")
        if len(self) < _MOST_NAMES:
            self[call] = name
        return name


_NAMES = _Names()
_alive: tuple[weakref.ref[Any], ...] = ()
_alive_lock = threading.Lock()


def enter_force(stub: APIProxyStub) -> None:
    """Put a stub in force, before those that are alive already."""
    global _alive  # noqa: PLW0603 (a process has one service of a kind)
    with _alive_lock:
        _alive = (*_without(None), weakref.ref(stub))
    witness.tell(stub)


def leave_force(stub: APIProxyStub) -> None:
    """Take a stub out of force; the one before it is in force again."""
    global _alive  # noqa: PLW0603 (a process has one service of a kind)
    with _alive_lock:
        _alive = _without(stub)


def in_force() -> Any | None:
    """The newest stub that is alive, or None."""
    references = _alive
    newest = references[-1]() if references else None
    if newest is not None or not references:
        return newest
    stubs = (reference() for reference in reversed(references))
    return next((stub for stub in stubs if stub is not None), None)


def _without(stub: APIProxyStub | None) -> tuple[weakref.ref[Any], ...]:
    return tuple(reference for reference in _alive if reference() not in (None, stub))
