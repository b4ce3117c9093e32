"""What every App Engine stub has: its base class, and the calls of it."""

from __future__ import annotations

import random
import warnings
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from pytest_channelstub import apiproxy_errors
from pytest_channelstub._record.formatting import describe_type, shorten_repr
from pytest_channelstub._record.frames import hide_frame

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

# pytest's tracebacks: see hide_frame.
__tracebackhide__ = hide_frame

_Result = TypeVar("_Result")

MAX_REQUEST_SIZE = 1 << 20
"""The largest request that a stub takes, in bytes: 1 MiB."""


def call_locked(lock: Any, function: Callable[..., _Result], *arguments: object) -> _Result:
    """Call a function while holding a lock.

    On one line: what a debugger or a trace function raises between two lines of ours then
    finds the lock free, where no other thread would ever get it.
    """
    with lock: return function(*arguments)  # fmt: skip  # noqa: E701


class FailingCalls(NamedTuple):
    """An order to fail calls."""

    error: Any
    call: str | None = None  # the only one that fails; None for all
    rate: float = 1.0  # the chance that a call fails
    origin: str = "SetError"  # who gave the order, for the timeline


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
        self.request: Any = request
        self.response: Any = response
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
            name = f"{package or self.package}.{call or self.call}"
            reason = "has no stub" if self.stub is None else "has already been started"
            raise AssertionError(f"RPC for {name} {reason}")
        self.package = package or self.package
        self.call = call or self.call
        self.request = self.request if request is None else request
        self.response = self.response if response is None else response
        self.callback = callback or self.callback
        self.deadline = deadline or self.deadline
        self._state = RPC.RUNNING
        send = partial(self.stub.MakeSyncCall, self.package or "", self.call or "")
        self._attempt(partial(send, self.request, self.response))
        self._state = RPC.FINISHING
        if self.callback is not None:
            self._attempt(self.callback)

    def Wait(self) -> None:
        """Wait until the call has ended; a stub's has when `MakeCall` returns.

        Raises:
            AssertionError: The call was never made.
        """
        if self._state == RPC.IDLE:
            name = f"{self.package}.{self.call}"
            raise AssertionError(f"RPC for {name} was not started: call MakeCall() first")

    def CheckSuccess(self) -> None:
        """Raise what the call or its callback raised, if anything."""
        if self._exception is not None:
            raise self._exception

    def _attempt(self, step: Callable[[], object]) -> None:
        try:
            step()
        except Exception as error:  # noqa: BLE001 (kept for CheckSuccess, which raises it)
            # As in the SDK, that of the callback counts; that of the call is not lost.
            if error.__context__ is None and error is not self._exception:
                error.__context__ = self._exception
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
    """

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
        # By call; None is for all of them.
        self._errors: dict[str | None, FailingCalls] = {}
        # Errors beside what SetError has set, which only their owner lifts.
        self._failing: Sequence[Any] = ()

    @cached_property
    def _random(self) -> random.Random:
        """A generator of its own: the global one is never touched."""
        # Made at its first use, which most tests never come to: a third of a stub's making.
        return random.Random(self._random_seed())  # noqa: S311 (for tests, not for secrets)

    def _random_seed(self) -> int | str | None:
        """What the generator is seeded with; None for anything."""

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
            raise AssertionError(f'Expected "{self._service_name}" service name, was "{service}"')
        size = request.ByteSize()
        if size > self._max_request_size:
            raise apiproxy_errors.RequestTooLargeError(
                f"The request to API call {service}.{call}() was too large: {size} bytes, "
                f"and at most {self._max_request_size} are allowed."
            )
        if not request.IsInitialized():
            missing: list[str] = []
            request.IsInitialized(missing)
            raise AssertionError(
                f"The request to API call {service}.{call}() is incomplete: {missing}"
            )

    def MakeSyncCall(
        self, service: str, call: str, request: Any, response: Any, request_id: str | None = None
    ) -> None:
        """Make a call and wait for its answer, which goes into `response`.

        Args:
            service: The service's name.
            call: The call's name, such as `CreateChannel`.
            request: The request message.
            response: The message that takes the answer.
            request_id: Which of the app's requests makes the call; not used.

        Raises:
            AssertionError: The service is another one, or a required field is missing.
            RequestTooLargeError: The request is over 1 MiB.
            CallNotFoundError: The service has no such call.
            Error: What `SetError` has set, or what the call itself raises.
        """
        self.CheckRequest(service, call, request)
        if self._errors or self._failing:
            self._raise_set_error(call, request)
        # Joined and not formatted: a member of a string enumeration is its value.
        method = getattr(self, "_Dynamic_" + call, None) if isinstance(call, str) else None
        if method is None:
            calls = self._list_calls()
            raise apiproxy_errors.CallNotFoundError(
                f"The service {service!r} has no call {call!r}: it has {', '.join(sorted(calls))}"
            )
        method(request, response)

    def SetError(self, error: Any, method: str | None = None, error_rate: float = 1) -> None:
        """Have calls fail from now on, as the SDK's stubs do.

        Args:
            error: An `apiproxy_errors.Error`, or None to lift the error set for all calls.
            method: The only call to fail, such as `SendChannelMessage`; None for all
                calls. To lift the error of one call, set it again with a rate of 0.
            error_rate: The chance that a call fails, from 0 to 1.

        Raises:
            AssertionError: `error` is not such an error.
            TypeError: `error_rate` is not a number.
            ValueError: `error_rate` is not from 0 to 1.
        """
        if not (error is None or isinstance(error, apiproxy_errors.Error)):
            raise AssertionError(
                f"{shorten_repr(error)} is not an error of an App Engine call: pass an instance "
                "of apiproxy_errors.Error, or None"
            )
        try:
            is_chance = 0 <= error_rate <= 1
        except TypeError:
            instead = "a number from 0 to 1"
            raise TypeError(describe_type("error_rate", error_rate, instead)) from None
        if not is_chance:
            raise ValueError(f"error_rate is {error_rate!r}: pass a number from 0 to 1")
        calls = self._list_calls()
        if method and error and method not in calls:
            text = f"no call is named {method!r}, and none fails: pass {' or '.join(calls)}"
            warnings.warn(text, stacklevel=2)
        if method and error:
            self._errors[method] = FailingCalls(error, method, error_rate, f"SetError for {method}")
        elif error is None:
            self._errors.pop(None, None)
        else:
            self._errors[None] = FailingCalls(error, None, error_rate)

    def _list_calls(self) -> list[str]:
        return [name[9:] for name in dir(self) if name.startswith("_Dynamic_")]

    def _raise_set_error(self, call: str, request: Any) -> None:
        set_errors = (self._errors.get(call), self._errors.get(None))
        for order in (*set_errors, *self._failing):
            if order is None or order.call not in (None, call):
                continue
            if order.rate >= 1 or self._random.random() < order.rate:
                self._record_set_error(call, request, order)
                # One instance is raised many times: its traceback would grow, and keep
                # alive what the frames of earlier calls held.
                raise order.error.with_traceback(None)

    def _record_set_error(self, call: str, request: Any, order: FailingCalls) -> None:
        """For stubs that record which of their calls fail."""
