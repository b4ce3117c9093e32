"""pytest's side of the house: options, markers, fixtures, reports."""

from __future__ import annotations

import functools
from types import ModuleType
from typing import TYPE_CHECKING, Any

import pytest

from pytest_channelstub._appengine import importing as appengine
from pytest_channelstub._plugin import options as _options
from pytest_channelstub._plugin.session import Run, forget_unloaded_modules

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator

    from pytest_channelstub._service.clock import FakeClock, Moment
    from pytest_channelstub._service.stub import ChannelServiceStub
    from pytest_channelstub.client import ChannelClient
    from pytest_channelstub.web import ChannelServer


_DEFINED = pytest.StashKey[bool]()
_SERVED = pytest.StashKey[appengine.Installation]()

# The runs that are under way, the innermost last: pytester runs pytest within pytest. The
# fixtures look here, as asking pytest for its `request` costs more than building a stub.
_runs: list[Run] = []

_MARKERS = {
    "channel_stub(*, start, clock, seed, strict)": "build this test's stub with a start of its "
    "clock (datetime, ISO string or epoch seconds), a clock ('fake', 'freeze', 'system'), a seed "
    "of its tokens, and fail a passing test that leaves messages 'dropped' or 'unread'",
    "channel_reset(what)": "reset 'queues', 'all' or 'nothing' before each test, on the stubs "
    "that outlive a test",
    "channel_error(error, call=None, rate=1.0)": "have calls fail during this test, as after "
    "SetError: with an apiproxy_errors.Error or a code of ChannelServiceError",
}
_INI = {
    "start": "start of the clock: an ISO 8601 string or seconds since the epoch "
    "(default: 2020-01-01T00:00:00Z)",
    "clock": "'fake': the stub's own time (default); 'freeze': the same, and freezegun holds the "
    "whole process at it; 'system': what time.time() says",
    "seed": "seed of the random part of tokens (default: derived from the test's node id)",
    "strict": "fail a passing test that leaves messages 'dropped', 'unread' or both",
    "scope": "scope of channel_stub: function (default), class, module, package, session",
    "reset": "what is reset before each test on stubs that outlive it: queues (default), all, "
    "nothing",
    "appengine": "serve google.appengine.api.channel and testbed: auto (default: where the SDK is "
    "installed), always, never",
}


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options of the command line and of the ini file."""
    forget_unloaded_modules()
    group = parser.getgroup("channelstub", "App Engine's Channel API")
    group.addoption("--channelstub-clock", metavar="CLOCK", help=_INI["clock"])
    group.addoption("--channelstub-strict", metavar="WHAT", help=_INI["strict"])
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
    for name, told in _INI.items():
        parser.addini(f"channelstub_{name}", told, default="")


@pytest.hookimpl(tryfirst=True)
def pytest_load_initial_conftests(early_config: pytest.Config) -> None:
    """Serve the SDK's lost names before the first conftest.py asks for them."""
    _serve_the_sdk(early_config)


def pytest_configure(config: pytest.Config) -> None:
    """Register the markers, and refuse a bad setting before anything is collected."""
    _serve_the_sdk(config)
    for signature, told in _MARKERS.items():
        config.addinivalue_line("markers", f"{signature}: {told}")
    run = Run(config)
    _runs.append(run)
    config.add_cleanup(functools.partial(_end, run))
    config.pluginmanager.register(run.reporter, "channelstub-reports")


def _serve_the_sdk(config: pytest.Config) -> None:
    """Once for a run, whenever the plugin came in; undone when it ends, also when it fails."""
    mode = config.getini("channelstub_appengine") or "auto"
    if _SERVED not in config.stash and mode in appengine.MODES:
        config.stash[_SERVED] = appengine.install(mode)
        config.add_cleanup(config.stash[_SERVED].undo)


def _end(run: Run) -> None:
    run.close()
    _runs.remove(run)


def pytest_report_header(config: pytest.Config) -> str | None:
    """Tell what is not at its default, and where it was set."""
    told = [*_runs[-1].options.told]
    port = config.getoption("channelstub_port")
    if port:
        told.append(f"port={port} (from --channelstub-port)")
    return f"channelstub: {', '.join(told)}" if told else None


def pytest_collectstart(collector: pytest.Collector) -> None:
    """Give each package fixtures of its own, where that is their scope.

    pytest builds a plugin's package-scoped fixtures once for the whole session: only those
    that are defined within a package are the package's.
    """
    if _runs[-1].options.scope == "package":
        for node in collector.listchain():
            if isinstance(node, pytest.Package) and _DEFINED not in node.stash:
                node.stash[_DEFINED] = True
                _define_fixtures_for(node)


@pytest.hookimpl(tryfirst=True)
def pytest_pycollect_makeitem(collector: pytest.Collector, name: str, obj: object) -> None:
    """Refuse a test whose `channel_error` marker was given a class: it would just be gone."""
    # Of the type, as this sees every name of every module: a proxy may act on `__class__`.
    if issubclass(type(obj), (Exception, pytest.MarkDecorator)):
        _runs[-1].refuse_class(f"{collector.nodeid}::{name}", obj)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Check the test's markers before anything is built for it."""
    _runs[-1].prepare(item)


@pytest.hookimpl(tryfirst=True)
def pytest_fixture_setup(fixturedef: pytest.FixtureDef[Any]) -> None:
    """Reset what outlives the test when its own fixtures begin: wider ones are there by then."""
    run = _runs[-1]
    if not run.begun and fixturedef.scope == "function":
        run.begin()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call() -> Generator[None, object, object]:
    """Reset what outlives a test without fixtures; fail one that leaves what it must not."""
    __tracebackhide__ = True
    run = _runs[-1]
    if not run.begun:
        run.begin()
    result = yield
    run.insist()
    return result


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_teardown() -> None:
    """Undo what was set for the time of the test."""
    _runs[-1].end()


@pytest.fixture(scope="session")
def channel_app() -> Callable[..., Any] | None:
    """The app's WSGI callable, which is told of clients that come and go: override it.

    Example: `return my_app.wsgi_app`. None, as here, for no app.
    """
    return None


def _scope(fixture_name: str, config: pytest.Config) -> str:  # noqa: ARG001 (pytest passes them)
    return _runs[-1].options.scope


@pytest.fixture(scope=_scope)  # type: ignore[arg-type]  # a str is a scope, checked in _options
def channel_stub(channel_app: Callable[..., Any] | None) -> Iterator[ChannelServiceStub]:
    """The Channel API's stub: a ChannelServiceStub on a clock that the test moves.

    Example: `channel_stub.get_channel_messages(token) == ["hello"]`.
    """
    stub = _runs[-1].build(channel_app)
    yield stub
    stub.close()


@pytest.fixture(scope=_scope)  # type: ignore[arg-type]  # a str is a scope, checked in _options
def channel_clock(channel_stub: ChannelServiceStub) -> FakeClock:
    """The stub's clock: `channel_clock.advance(hours=2)` fires what falls due on the way."""
    return channel_stub.clock


@pytest.fixture
def channel_client(channel_stub: ChannelServiceStub) -> Iterator[Callable[..., ChannelClient]]:
    """A function that connects a page: `channel_client("alice")` gives a ChannelClient.

    `channel_client(client_id, duration_minutes=None, keep_alive=False)`: the token lasts
    `duration_minutes` (120 by default); `keep_alive` refreshes the connection as time goes by.
    """
    from pytest_channelstub import channel  # noqa: PLC0415 (when first asked for)
    from pytest_channelstub.client import ChannelClient  # noqa: PLC0415

    # A failure's traceback keeps its test's clients: on a stub that outlives the test they
    # would keep themselves alive in the next ones.
    clients: list[ChannelClient] = []

    def connect(
        client_id: str, duration_minutes: int | None = None, keep_alive: bool = False
    ) -> ChannelClient:
        __tracebackhide__ = True
        token = channel._create_channel(channel_stub, client_id, duration_minutes)
        clients.append(ChannelClient(channel_stub, token, keep_alive=keep_alive))
        return clients[-1]

    _name(connect, "channel_client")
    yield connect
    for client in clients:
        client._end_lease()


@pytest.fixture(scope=_scope)  # type: ignore[arg-type]  # a str is a scope, checked in _options
def channel_server(
    channel_stub: ChannelServiceStub,
    channel_app: Callable[..., Any] | None,
    pytestconfig: pytest.Config,
) -> Iterator[ChannelServer]:
    """A live server on 127.0.0.1 for real browsers: channel_app, the service, its script.

    Example: `page.goto(channel_server.url_for("/chat", user="alice"))`.
    """
    from pytest_channelstub._plugin import servers as _servers  # noqa: PLC0415 (when first asked for)

    with _servers.of(pytestconfig).serve(channel_stub, channel_app) as server:
        yield server


@pytest.fixture(scope="session")
def make_channel_stub() -> Callable[..., ChannelServiceStub]:
    """A function that builds a stub, for fixtures of one's own at any scope.

    `with make_channel_stub(start="2024-02-29") as stub: yield stub`. It takes `start`, `clock`
    ('fake', 'freeze', 'system' or a FakeClock), `seed` and `app`, all by keyword. A stub that
    is never closed ends with the session.
    """
    run = _runs[-1]
    base = run.options.settings

    def make(
        *,
        start: Moment | None = base.start,
        clock: str | FakeClock = base.clock,
        seed: int | str | None = base.seed,
        app: Callable[..., Any] | None = None,
    ) -> ChannelServiceStub:
        _options.check_built_with(None if start is base.start else start, clock, seed)
        return run.keeper().build(start=start, clock=clock, seed=seed, app=app)

    _name(make, "make_channel_stub")
    return make


def _name(function: Callable[..., object], name: str) -> None:
    """Have errors call a fixture's function by the name that the test knows."""
    function.__name__ = function.__qualname__ = name


def _define_fixtures_for(package: pytest.Package) -> None:
    holder = ModuleType(package.nodeid)
    for fixture in (channel_stub, channel_clock, channel_server):
        setattr(holder, fixture.__name__, fixture)
    # pytest has no public way to define a fixture for a node.
    manager: Any = package.session._fixturemanager
    try:
        manager.parsefactories(holder=holder, node=package)
    except TypeError:  # before pytest 9
        manager.parsefactories(holder, package.nodeid)
