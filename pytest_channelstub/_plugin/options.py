"""What a test can ask for, and where: marker, command line, ini file."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, get_args

import pytest

from pytest_channelstub._appengine.importing import MODES
from pytest_channelstub._record.frames import hide_frame

if TYPE_CHECKING:
    from pytest_channelstub._service.apiproxy import FailingCalls
    from pytest_channelstub._service.clock import FakeClock, Moment
    from pytest_channelstub._service.stub import Reset

# pytest's tracebacks: see hide_frame.
__tracebackhide__ = hide_frame

ClockName = Literal["fake", "freeze", "system"]
"""The clocks that a stub is built with, by name."""

CLOCKS: tuple[ClockName, ...] = get_args(ClockName)
MARKERS = {
    "channel_stub": "(*, start, clock, seed, strict, presence): build this test's stub with a "
    "start of its clock (datetime, ISO string or epoch seconds), a clock ('fake', 'freeze', "
    "'system'), a seed of its tokens; fail a passing test that leaves messages 'dropped' or "
    "'unread' (strict); have the app hear who connects and disconnects, or not (presence)",
    "channel_reset": "(what): reset 'queues', 'all' or 'nothing' before each test, on the stubs "
    "that outlive a test",
    "channel_error": "(error, call=None, rate=1.0): have calls fail during this test, as after "
    "SetError: with an apiproxy_errors.Error or a code of ChannelServiceError",
}
"""The markers' signatures and purposes, for `pytest --markers`, by name."""

_BUILT_WITH = ("start", "clock", "seed")
_HOST = "127.0.0.1"
_HIGHEST_PORT = 65535
_STRICT_VALUES = "'dropped', 'unread' or both, as 'dropped,unread'; '' for neither"
_ERRORS = "an apiproxy_errors.Error, or a code of ChannelServiceError (0 to 5)"
_NO_START = (
    "start has no effect with clock='system', which shows what time.time() says: leave start out, "
    "or pass clock='fake' or 'freeze'"
)

_Parser = Callable[[Any], Any]


# Named tuples, as pytest's start imports this module and a dataclass takes longer to define.


class Settings(NamedTuple):
    """What a test asks for, by its markers or by default."""

    start: Moment | None = None  # of the clock; None for the default
    clock: ClockName | FakeClock = "fake"
    seed: int | str | None = None  # of the tokens' random part; None for the test's node id
    strict: frozenset[str] = frozenset()  # what a passing test must not leave: "dropped", "unread"
    presence: bool = True  # whether the app hears who connects and disconnects
    reset: Reset = "queues"  # what is reset before the test
    failing: tuple[FailingCalls, ...] = ()  # during the test


class RunOptions(NamedTuple):
    """What holds for the whole run."""

    settings: Settings  # of a test that asks for nothing itself
    non_defaults: list[str]  # the options that are not at their default, for pytest's header
    host: str  # where `channel_server` listens
    port: int  # 0 for one that is free
    scope: str = "function"  # of `channel_stub`
    freeze_ignore: tuple[str, ...] = ()  # modules that see real time under `clock="freeze"`


def add_options(parser: pytest.Parser) -> None:
    """Add the options of the command line and of the ini file."""
    group = parser.getgroup("channelstub", "App Engine's Channel API")
    group.addoption("--channelstub-clock", choices=CLOCKS, help=_HELP["clock"])
    group.addoption(
        "--channelstub-strict", metavar="{dropped | unread | dropped,unread}", help=_HELP["strict"]
    )
    group.addoption(
        "--channelstub-host",
        metavar="HOST",
        default=_HOST,
        help="address of channel_server (default: 127.0.0.1, which only this machine reaches)",
    )
    group.addoption(
        "--channelstub-port",
        metavar="PORT",
        type=int,
        default=0,
        help="port of channel_server (default: one that is free); xdist's workers count up from it",
    )
    group.addoption(
        "--channelstub-timeline",
        metavar="PATH",
        help="directory for the timelines of the tests that used a stub: a page each, and an index",
    )
    for name, option in _OPTIONS.items():
        parser.addini(f"channelstub_{name}", _HELP[name], option.ini_type, option.ini_default)


def read_run_options(config: pytest.Config) -> RunOptions:
    """What the command line and the ini file ask for."""
    values: dict[str, Any] = {}
    non_defaults: list[str] = []
    for name, option in _OPTIONS.items():
        value, source = config.getoption(f"channelstub_{name}", None), f"--channelstub-{name}"
        try:
            if value is None:
                source = f"ini channelstub_{name}"
                value = config.getini(f"channelstub_{name}")
            if value == option.ini_default:
                continue
            values[name] = option.parse(value)
        except (TypeError, ValueError, pytest.UsageError) as error:
            instead = ": pass true or false" if option.ini_type == "bool" else ""
            message = f"{source}: {error}{instead}"
            raise pytest.UsageError(message) from None
        shown = ",".join(value) if isinstance(value, list) else value
        non_defaults.append(f"{name}={shown} (from {source})")
    for name, default in (("host", _HOST), ("port", 0)):
        values[name] = config.getoption(f"channelstub_{name}")
        if values[name] != default:
            non_defaults.append(f"{name}={values[name]} (from --channelstub-{name})")
    # A clock of the command line drops the ini file's start.
    is_clock_of_ini = config.getoption("channelstub_clock") is None
    if "start" in values and values.get("clock") == "system" and is_clock_of_ini:
        message = f"ini channelstub_start: {_NO_START}"
        raise pytest.UsageError(message)
    check_port(values["port"])
    if not values["host"]:
        raise pytest.UsageError("--channelstub-host is empty: name an address, such as 127.0.0.1")
    values.pop("appengine", None)  # read before, when no conftest.py was loaded yet
    wide = {name: values.pop(name) for name in RunOptions._fields if name in values}
    return RunOptions(Settings(**values), non_defaults, **wide)


def read_item_options(item: pytest.Item, options: RunOptions) -> Settings:
    """What the markers of a test ask for, the nearest first."""
    settings = read_settings(item, options.settings)
    marker = item.get_closest_marker("channel_reset")
    if marker is not None:
        what = _bind(marker, _reset_marker, item.nodeid)["what"]
        reset = _parse(_OPTIONS["reset"].parse, what, "channel_reset(", item.nodeid)
        settings = settings._replace(reset=reset)
    failing = []
    for node, marker in item.iter_markers_with_node("channel_error"):
        from pytest_channelstub._service.apiproxy import FailingCalls  # noqa: PLC0415 (pytest's start is quick)

        origin = f"@pytest.mark.channel_error at {node.nodeid or 'the session'}"
        calls = FailingCalls(**_bind(marker, _error_marker, item.nodeid), origin=origin)
        failing.append(_parse(_parse_failing_calls, calls, "channel_error(", item.nodeid))
    return settings._replace(failing=tuple(failing))


def read_settings(node: pytest.Item | pytest.Collector, base: Settings) -> Settings:
    """What the `channel_stub` markers of a node ask for, keyword by keyword the nearest first."""
    chosen: dict[str, Any] = {}
    for marker in node.iter_markers("channel_stub"):
        for name, value in _bind(marker, _stub_marker, node.nodeid).items():
            if name not in chosen:
                parse = _OPTIONS[name].parse
                chosen[name] = _parse(parse, value, f"channel_stub({name}=", node.nodeid)
    settings = base._replace(**chosen)
    # The nearest marker comes first in `chosen`. One that asks for the system's clock drops a
    # start that is further away, as it drops the ini file's.
    names = [*chosen, "clock"]
    if settings.clock == "system" and "start" in names[: names.index("clock")]:
        message = f"{node.nodeid}: @pytest.mark.channel_stub(start=...): {_NO_START}"
        pytest.fail(message, pytrace=False)
    return settings


def find_build_keyword(markers: Iterable[pytest.Mark]) -> str | None:
    """The first keyword of `channel_stub` among markers that counts when the stub is built."""
    given = [name for marker in markers if marker.name == "channel_stub" for name in marker.kwargs]
    return next((name for name in _BUILT_WITH if name in given), None)


def check_stub_arguments(start: Any, clock: Any, seed: Any) -> None:
    """Refuse what `make_channel_stub` cannot build a stub with."""
    from pytest_channelstub._service.clock import FakeClock  # noqa: PLC0415 (only with a stub)

    if not isinstance(clock, FakeClock) and clock not in CLOCKS:
        raise _refusal(clock, f"clock={', '.join(map(repr, CLOCKS))} or a FakeClock")
    if start is not None and isinstance(clock, FakeClock):
        raise ValueError(
            "start has no effect with a FakeClock, which has its own: pass it there, as in "
            "FakeClock(start=...)"
        )
    if start is not None and clock == "system":
        raise ValueError(_NO_START)
    if seed is not None:
        try:
            _parse_seed(seed)
        except ValueError as error:
            message = f"seed: {error}"
            raise ValueError(message) from None


def check_port(port: int) -> None:
    """Refuse a number that is not a port."""
    if not 0 <= port <= _HIGHEST_PORT:
        message = f"--channelstub-port: {port} is not a port: pass one from 1 to {_HIGHEST_PORT}"
        raise pytest.UsageError(message)


def check_marked_test(value: Any) -> None:
    """Refuse what `@channel_error(OverQuotaError)` makes of a test.

    pytest marks the class and not the test, and then calls the class with the test: an
    exception takes the test's place, and is not collected. Other markers may be around it.
    """
    while isinstance(value, pytest.MarkDecorator):
        value = value.args[-1] if value.args else None
    marks = vars(type(value)).get("pytestmark") if isinstance(value, Exception) else None
    if not isinstance(marks, list) or all(mark.name != "channel_error" for mark in marks):
        return
    if any(callable(each) or isinstance(each, Exception) for each in value.args):
        kind = type(value)
        raise ValueError(f"@pytest.mark.channel_error({kind.__name__}): {_refuse_class(kind)}")


# The markers' signatures. They are never called: what a marker was given is bound to them.
def _stub_marker(
    *, start: Any = 0, clock: Any = 0, seed: Any = 0, strict: Any = 0, presence: Any = 0
) -> None: ...


def _reset_marker(what: Any) -> None: ...


def _error_marker(error: Any, call: Any = None, rate: Any = 1.0) -> None: ...


def _bind(marker: pytest.Mark, taker: Callable[..., None], nodeid: str) -> dict[str, Any]:
    signature = inspect.signature(taker)
    try:
        return signature.bind(*marker.args, **marker.kwargs).arguments
    except TypeError as error:
        takes = ", ".join(signature.parameters)
        message = f"{nodeid}: @pytest.mark.{marker.name}: {error}; it takes {takes}"
        raise pytest.fail.Exception(message, pytrace=False) from None


def _parse(parse: _Parser, value: Any, where: str, nodeid: str) -> Any:
    try:
        return parse(value)
    except (TypeError, ValueError) as error:
        message = f"{nodeid}: @pytest.mark.{where}...): {error}"
        raise pytest.fail.Exception(message, pytrace=False) from None


def _parse_start(value: Any) -> Moment:
    from pytest_channelstub._service.clock import to_microseconds  # noqa: PLC0415 (pytest's start is quick)

    to_microseconds(value)
    return value  # type: ignore[no-any-return]  # what is no Moment was refused above


def _parse_seed(value: Any) -> int | str:
    if isinstance(value, bool) or not isinstance(value, (int, str)):
        raise _refusal(value, "a whole number or a string")
    try:
        str(value).encode()
    except UnicodeEncodeError:
        raise _refusal(value, "a string without lone surrogates, which are not UTF-8") from None
    return value


def _parse_presence(value: Any) -> bool:
    if not isinstance(value, bool):
        raise _refusal(value, "True or False")
    return value


def _parse_strict(value: Any) -> frozenset[str]:
    names = [value] if isinstance(value, str) else value
    if not isinstance(names, Iterable):
        raise _refusal(value, _STRICT_VALUES)
    # A list of an ini file may hold "dropped,unread", too.
    wanted = frozenset(word for name in names for word in str(name).replace(",", " ").split())
    if not wanted <= {"dropped", "unread"}:
        raise _refusal(value, _STRICT_VALUES)
    return wanted


def _parse_modules(value: Any) -> tuple[str, ...]:
    for name in value:
        if not all(part.isidentifier() for part in name.split(".")):
            raise _refusal(name, "names of modules and packages, such as app.polling")
    return tuple(value)


def _parse_failing_calls(failing: FailingCalls) -> FailingCalls:
    from pytest_channelstub import apiproxy_errors  # noqa: PLC0415 (pytest's start is quick)
    from pytest_channelstub._service.channel_service_pb import ChannelServiceError  # noqa: PLC0415

    error = failing.error
    if isinstance(error, type):
        raise _refuse_class(error)
    is_code = isinstance(error, int) and not isinstance(error, bool)
    if is_code and ChannelServiceError.ErrorCode_Name(error):
        error = apiproxy_errors.ApplicationError(error)
    if not isinstance(error, apiproxy_errors.Error):
        raise _refusal(failing.error, _ERRORS)
    if failing.call not in (None, "CreateChannel", "SendChannelMessage"):
        raise _refusal(failing.call, "call='CreateChannel', 'SendChannelMessage' or None")
    rate = failing.rate
    if isinstance(rate, bool) or not isinstance(rate, (int, float)) or not 0 <= rate <= 1:
        raise _refusal(rate, "rate= a number from 0 to 1")
    return failing._replace(error=error)


def _refuse_class(kind: type) -> ValueError:
    from pytest_channelstub import apiproxy_errors  # noqa: PLC0415 (only an error needs it)

    if not issubclass(kind, apiproxy_errors.Error):
        return _refusal(kind, _ERRORS)
    code = "code" if issubclass(kind, apiproxy_errors.ApplicationError) else ""
    return ValueError(f"{kind.__name__} is a class: pass an instance, {kind.__name__}({code})")


def _one_of(*choices: str) -> _Parser:
    def parse(value: Any) -> str:
        if not isinstance(value, str) or value not in choices:
            raise _refusal(value, f"one of {', '.join(map(repr, choices))}")
        return value

    return parse


def _refusal(value: Any, allowed: str) -> ValueError:
    from pytest_channelstub._record.formatting import shorten_repr  # noqa: PLC0415 (pytest's start is quick)

    return ValueError(f"{shorten_repr(value)} is not allowed here: pass {allowed}")


class _Option(NamedTuple):
    """An option: how a value is read, and what its ini value is."""

    parse: _Parser
    ini_type: Any = None
    ini_default: Any = ""


_OPTIONS = {
    "start": _Option(_parse_start),
    "clock": _Option(_one_of(*CLOCKS)),
    "seed": _Option(_parse_seed),
    "strict": _Option(_parse_strict, "args", []),
    "presence": _Option(_parse_presence, "bool", True),
    "scope": _Option(_one_of("function", "class", "module", "session")),
    "reset": _Option(_one_of("queues", "all", "nothing")),
    "appengine": _Option(_one_of(*MODES)),
    "freeze_ignore": _Option(_parse_modules, "args", []),
}
_HELP = {
    "start": "start of the clock: an ISO 8601 string or seconds since the epoch "
    "(default: 2020-01-01T00:00:00Z)",
    "clock": "'fake': the stub's own time (default); 'freeze': the same, and freezegun holds the "
    "whole process at it; 'system': what time.time() says",
    "seed": "seed of the random part of tokens (default: derived from the test's node id)",
    "strict": "fail a passing test that leaves messages 'dropped' or 'unread'; both as "
    "dropped,unread (default: neither)",
    "presence": "whether the app hears who connects and disconnects (default: true)",
    "scope": "scope of channel_stub: function (default), class, module, session",
    "reset": "what is reset before each test on stubs that outlive it: queues (default), all, "
    "nothing",
    "appengine": "serve google.appengine.api.channel and testbed: auto (default: where the SDK is "
    "installed), always, never",
    "freeze_ignore": "modules and packages whose code sees real time under clock='freeze', beside "
    "pytest, subprocess and others that measure or wait",
}
