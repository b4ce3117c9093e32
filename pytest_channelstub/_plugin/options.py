"""What a test can ask for, and where it was asked: marker, command line, ini file."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

if TYPE_CHECKING:
    from pytest_channelstub._service.clock import Moment

CLOCKS = ("fake", "freeze", "system")
STRICTNESS = ("dropped", "unread")
SCOPES = ("function", "class", "module", "package", "session")
RESETS = ("queues", "all", "nothing")
APPENGINE = ("auto", "always", "never")


# pytest loads this module at its start, and a dataclass takes five times as long to define.


class Settings(NamedTuple):
    """What a stub is built with, and what is asked of its test.

    Attributes:
        start: The clock's start; None for the default.
        clock: `fake`, `freeze` or `system`.
        seed: Of the tokens' random part; None to derive it from the test's name.
        strict: Which messages a passing test must not leave: `dropped`, `unread`.
    """

    start: Moment | None = None
    clock: str = "fake"
    seed: int | str | None = None
    strict: frozenset[str] = frozenset()


class FailingCalls(NamedTuple):
    """What a `channel_error` marker asks for.

    Attributes:
        error: The exception, or a code of `ChannelServiceError`.
        call: The only call that fails; None for all.
        rate: The chance, from 0 to 1.
    """

    error: Any
    call: str | None = None
    rate: float = 1.0
    origin: str = "channel_error"


class RunSettings(NamedTuple):
    """What holds for the whole run.

    Attributes:
        settings: What a test gets that asks for nothing itself.
        scope: Of `channel_stub`.
        reset: What is reset before each test.
        appengine: Whether the SDK's names are served.
        told: What is not at its default, and where it was set, for pytest's header.
    """

    settings: Settings
    scope: str
    reset: str
    appengine: str
    told: tuple[str, ...] = ()


_NO_START = (
    "start has no effect with clock='system', which shows what time.time() says: leave start out, "
    "or pass clock='fake' or 'freeze'"
)
_ERROR = "channel_error"
_ERRORS = "an apiproxy_errors.Error, or a code of ChannelServiceError (0 to 5)"

_Parser = Callable[[Any], Any]


def parse_start(value: Any) -> Moment:
    """A start: whatever `FakeClock` takes."""
    from pytest_channelstub._service.clock import to_microseconds  # noqa: PLC0415 (pytest's start is quick)

    to_microseconds(value)
    return value  # type: ignore[no-any-return]  # what is no Moment was refused above


def parse_seed(value: Any) -> int | str:
    """A seed: a whole number or a string."""
    if isinstance(value, bool) or not isinstance(value, (int, str)):
        raise _refused(value, "a whole number or a string")
    return value


def parse_strict(value: Any) -> frozenset[str]:
    """A strictness: `dropped`, `unread`, both, or nothing."""
    names = value.replace(",", " ").split() if isinstance(value, str) else value
    wanted = frozenset(names) if isinstance(names, Iterable) else None
    if wanted is None or not wanted <= {*STRICTNESS}:
        raise _refused(value, "'dropped', 'unread' or both; '' for neither")
    return wanted


def check_built_with(start: Any, clock: Any, seed: Any) -> None:
    """Refuse what `make_channel_stub` cannot build a stub with.

    Args:
        start: As the call gave it; None where it gave none.
        clock: The call's, or the run's.
        seed: Likewise.

    Raises:
        ValueError: A value is none of the allowed ones, or one would be passed over.
    """
    from pytest_channelstub._service.clock import FakeClock  # noqa: PLC0415 (pytest's start is quick)

    if not isinstance(clock, FakeClock) and clock not in CLOCKS:
        raise _refused(clock, f"{', '.join(map(repr, CLOCKS))} or a FakeClock")
    if start is not None and isinstance(clock, FakeClock):
        raise ValueError(
            "start has no effect with a FakeClock, which has its own: pass it there, as in "
            "FakeClock(start=...)"
        )
    if start is not None and clock == "system":
        raise ValueError(_NO_START)
    if seed is not None:
        parse_seed(seed)


def one_of(choices: tuple[str, ...]) -> _Parser:
    """A parser that takes one of `choices`."""

    def parse(value: Any) -> str:
        if not isinstance(value, str) or value not in choices:
            raise _refused(value, f"one of {', '.join(map(repr, choices))}")
        return value

    return parse


_PARSERS: dict[str, _Parser] = {
    "start": parse_start,
    "clock": one_of(CLOCKS),
    "seed": parse_seed,
    "strict": parse_strict,
}
_RUN_PARSERS: dict[str, _Parser] = {
    "scope": one_of(SCOPES),
    "reset": one_of(RESETS),
    "appengine": one_of(APPENGINE),
}
_RUN_DEFAULTS = {"scope": "function", "reset": "queues", "appengine": "auto"}


def of_run(config: pytest.Config) -> RunSettings:
    """What the command line and the ini file ask for.

    Raises:
        pytest.UsageError: A value is none of the allowed ones.
    """
    told: list[str] = []
    chosen: dict[str, Any] = {}
    for name, parse in {**_PARSERS, **_RUN_PARSERS}.items():
        value, source = _given(config, name)
        if source is not None:
            try:
                chosen[name] = parse(value)
            except (TypeError, ValueError) as error:
                message = f"{source}: {error}"
                raise pytest.UsageError(message) from None
            told.append(f"{name}={value} (from {source})")
    run = {name: chosen.pop(name, default) for name, default in _RUN_DEFAULTS.items()}
    return RunSettings(Settings(**chosen), told=tuple(told), **run)


def of_node(node: pytest.Item | pytest.Collector, base: Settings) -> Settings:
    """What the `channel_stub` markers of a node ask for, the nearest first.

    Raises:
        pytest.fail.Exception: A keyword or a value is none of the allowed ones, or a start
            is asked of the system's time.
    """
    chosen: dict[str, Any] = {}
    for marker in node.iter_markers("channel_stub"):
        for name, value in _checked(marker, _stub_marker, node.nodeid).items():
            if name not in chosen:
                chosen[name] = _parsed(_PARSERS[name], value, f"channel_stub({name}=", node.nodeid)
    if not chosen:
        return base
    settings = base._replace(**chosen)
    # In the order chosen: a marker that is nearer than the start's, and asks for the clock,
    # may drop that start, as it may drop the ini file's.
    names = [*chosen, "clock"]
    if settings.clock == "system" and "start" in names[: names.index("clock")]:
        told = f"{node.nodeid}: @pytest.mark.channel_stub(start=...): {_NO_START}"
        pytest.fail(told, pytrace=False)
    return settings


def reset_of(item: pytest.Item, default: str) -> str:
    """What is to be reset before a test."""
    marker = item.get_closest_marker("channel_reset")
    if marker is None:
        return default
    what = _checked(marker, _reset_marker, item.nodeid)["what"]
    return str(_parsed(_RUN_PARSERS["reset"], what, "channel_reset(", item.nodeid))


def errors_of(item: pytest.Item) -> tuple[FailingCalls, ...]:
    """What the `channel_error` markers of a test ask for, the nearest first."""
    return tuple(
        _parsed(
            _parse_failing,
            FailingCalls(**_checked(marker, _error_marker, item.nodeid)),
            "channel_error(",
            item.nodeid,
        )
        for marker in item.iter_markers("channel_error")
    )


def class_marked(standing: Any) -> type[Exception] | None:
    """The class that a `channel_error` marker took for the test, if that is how this came.

    A marker whose only argument is a class marks that class and returns it: called with
    the test, as a decorator is, it makes an exception in the test's place. A marker
    above that one takes the exception for an argument of its own.

    Args:
        standing: What has a test's name.
    """
    while isinstance(standing, pytest.MarkDecorator):
        standing = standing.args[-1] if standing.args else None
    kind = type(standing)
    # The mark stays on the class: of its instances, those that hold a test are meant.
    if not issubclass(kind, Exception) or _ERROR not in _names_of_marks(kind):
        return None
    first = standing.args[0] if standing.args else None
    return kind if callable(first) or class_marked(first) is not None else None


def class_refused(kind: type[Exception]) -> ValueError:
    """What to tell of a class where an instance is wanted."""
    from pytest_channelstub import apiproxy_errors  # noqa: PLC0415 (pytest's start is quick)

    if not issubclass(kind, apiproxy_errors.Error):
        return _refused(kind, _ERRORS)
    code = "code" if issubclass(kind, apiproxy_errors.ApplicationError) else ""
    name = kind.__name__
    return ValueError(f"{name} is a class: pass an instance, {name}({code})")


def unmark(kind: Any) -> None:
    """Take the `channel_error` marks off a class that was never meant to have them."""
    kind.pytestmark = [mark for mark in kind.pytestmark if mark.name != _ERROR]


def _names_of_marks(kind: type) -> list[str]:
    marks = vars(kind).get("pytestmark")
    return [mark.name for mark in marks] if isinstance(marks, list) else []


def built_too_early(item: pytest.Item, scope: type[pytest.Collector] | type) -> str | None:
    """The first of `start`, `clock`, `seed` that a test asks of a stub older than itself."""
    for node in reversed(item.listchain()):
        if isinstance(node, scope):
            return None
        for marker in node.own_markers:
            if marker.name == "channel_stub":
                for name in ("start", "clock", "seed"):
                    if name in marker.kwargs:
                        return name
    return None


def _given(config: pytest.Config, name: str) -> tuple[Any, str | None]:
    option = config.getoption(f"channelstub_{name}", None)
    if option is not None:
        return option, f"--channelstub-{name}"
    value = config.getini(f"channelstub_{name}")
    return (value, f"ini channelstub_{name}") if value else (None, None)


# The markers' signatures. They are never called: what a marker was given is bound to them.
def _stub_marker(*, start: Any, clock: Any, seed: Any, strict: Any) -> None: ...


def _reset_marker(what: Any) -> None: ...


def _error_marker(error: Any, call: Any = None, rate: Any = 1.0) -> None: ...


def _checked(marker: pytest.Mark, taker: Callable[..., None], nodeid: str) -> dict[str, Any]:
    signature = inspect.signature(taker)
    bind = signature.bind_partial if taker is _stub_marker else signature.bind
    try:
        return dict(bind(*marker.args, **marker.kwargs).arguments)
    except TypeError as error:
        told = str(error)
    takes = ", ".join(signature.parameters)
    pytest.fail(f"{nodeid}: @pytest.mark.{marker.name}: {told}; it takes {takes}", pytrace=False)


def _parsed(parse: _Parser, value: Any, where: str, nodeid: str) -> Any:
    try:
        return parse(value)
    except (TypeError, ValueError) as error:
        told = str(error)
    pytest.fail(f"{nodeid}: @pytest.mark.{where}...): {told}", pytrace=False)


def _parse_failing(failing: FailingCalls) -> FailingCalls:
    from pytest_channelstub import apiproxy_errors  # noqa: PLC0415 (pytest's start is quick)
    from pytest_channelstub._service.channel_service_pb import ChannelServiceError  # noqa: PLC0415

    error = failing.error
    if isinstance(error, type):
        raise class_refused(error)
    if isinstance(error, int) and ChannelServiceError.ErrorCode_Name(error):
        error = apiproxy_errors.ApplicationError(error)
    if not isinstance(error, apiproxy_errors.Error):
        raise _refused(failing.error, _ERRORS)
    if failing.call not in (None, "CreateChannel", "SendChannelMessage"):
        raise _refused(failing.call, "call='CreateChannel', 'SendChannelMessage' or None")
    if isinstance(failing.rate, bool) or not isinstance(failing.rate, (int, float)):
        raise _refused(failing.rate, "rate= a number from 0 to 1")
    if not 0 <= failing.rate <= 1:
        raise _refused(failing.rate, "rate= a number from 0 to 1")
    return failing._replace(error=error)


def _refused(value: Any, allowed: str) -> ValueError:
    return ValueError(f"{value!r} is not allowed here: pass {allowed}")
