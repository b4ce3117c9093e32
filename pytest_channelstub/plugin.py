"""The plugin module: hooks, fixtures and markers."""

from __future__ import annotations

import importlib
import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

import pytest

from pytest_channelstub._appengine import importing as _appengine
from pytest_channelstub._appengine.patches import explain_missing_sdk as _explain_missing_sdk
from pytest_channelstub._plugin import options as _options
from pytest_channelstub._plugin.report import Pages as _Pages
from pytest_channelstub._plugin.report import Sections as _Sections
from pytest_channelstub._plugin.report import check_strict as _check_strict
from pytest_channelstub._plugin.session import Session as _Session
from pytest_channelstub._record.frames import hide_frame as _hide_frame

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator

    from pytest_channelstub import ChannelServiceStub, ConnectClient, FakeClock, MakeChannelStub
    from pytest_channelstub._plugin.options import ClockName
    from pytest_channelstub._service.clock import Moment
    from pytest_channelstub.web import ChannelServer

# pytest's tracebacks: see hide_frame.
__tracebackhide__ = _hide_frame

_SESSION = pytest.StashKey[_Session]()
_INSTALLATION = pytest.StashKey[_appengine.Installation]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options of the command line and of the ini file."""
    _options.add_options(parser)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_load_initial_conftests(early_config: pytest.Config) -> Generator[None, object, object]:
    """Serve the SDK's lost names before the first conftest.py imports them."""
    _serve_sdk(early_config)
    try:
        return (yield)
    except Exception as error:
        hint = _explain_missing_sdk(error)
        if hint and error.__cause__ is not None:
            error.__cause__.add_note(hint)  # the error that pytest shows
        raise


def pytest_exception_interact(call: pytest.CallInfo[Any], report: pytest.TestReport) -> None:
    """Say what to do where an import has failed for want of an SDK."""
    hint = _explain_missing_sdk(call.excinfo and call.excinfo.value)
    if hint:
        report.sections.append(("channelstub", hint))


def pytest_configure(config: pytest.Config) -> None:
    """Register the markers, and refuse a bad option before anything is collected."""
    _serve_sdk(config)
    for name, signature_and_purpose in _options.MARKERS.items():
        config.addinivalue_line("markers", name + signature_and_purpose)
    session = _Session(config)
    config.stash[_SESSION] = session
    config.add_cleanup(session.close)
    config.pluginmanager.register(_Sections(session), "channelstub-sections")
    config.pluginmanager.register(_Pages(session), "channelstub-pages")
    config.pluginmanager.register(_define_fixtures(session), "channelstub-fixtures")


def _serve_sdk(config: pytest.Config) -> None:
    """Serve the SDK's lost names until the run ends, whenever the plugin came in."""
    mode = config.getini("channelstub_appengine") or "auto"
    if _INSTALLATION not in config.stash and mode in _appengine.MODES:
        config.stash[_INSTALLATION] = _appengine.install(mode)
        config.add_cleanup(config.stash[_INSTALLATION].undo)


def pytest_report_header(config: pytest.Config) -> str | None:
    """Show the options that are not at their default, and where they were set."""
    non_defaults = config.stash[_SESSION].options.non_defaults
    return f"channelstub: {', '.join(non_defaults)}" if non_defaults else None


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Give each of xdist's workers a port of its own."""
    node.config.stash[_SESSION].number_worker(node)


@pytest.hookimpl(tryfirst=True)
def pytest_pycollect_makeitem(collector: pytest.Collector, name: str, obj: object) -> None:
    """Refuse a test whose `channel_error` marker was given a class: it would just be gone."""
    # By type(): this sees every name of every module, and a proxy's `__class__` may run code.
    if issubclass(type(obj), (Exception, pytest.MarkDecorator)):
        try:
            _options.check_marked_test(obj)
        except ValueError as error:
            message = f"{collector.nodeid}::{name}: {error}"
            raise pytest.Collector.CollectError(message) from None


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Check the test's markers before anything is built for it."""
    item.config.stash[_SESSION].prepare(item)


@pytest.hookimpl(tryfirst=True)
def pytest_fixture_setup(
    fixturedef: pytest.FixtureDef[Any], request: pytest.FixtureRequest
) -> None:
    """Reset what outlives a test before its first own fixture: wider ones are built by then."""
    session = request.config.stash[_SESSION]
    if not session.is_reset and fixturedef.scope == "function":
        session.begin_test()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, object, object]:
    """Reset what outlives a test without fixtures; check a test that has passed."""
    session = item.config.stash[_SESSION]
    session.begin_test()
    session.check_overrides()
    result = yield
    session.check_app_errors()
    if not session.has_failed:
        session.read_markers()
        session.check_markers_used()
        _check_strict(session)
    return result


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(item: pytest.Item) -> Generator[None, object, object]:
    """Undo what was set for the time of the test; fail it if the app raised meanwhile."""
    session = item.config.stash[_SESSION]
    session.lift_failing_calls()
    try:
        result = yield
    finally:
        session.end_test()
    session.check_app_errors()
    return result


@pytest.fixture(scope="session")
def channel_app() -> Callable[..., Any] | None:
    """The app's WSGI callable, which hears who connects and disconnects: override it.

    Example: `return my_app.wsgi_app`. None, as here, for no app.
    """
    return None


def _scope(fixture_name: str, config: pytest.Config) -> str:  # noqa: ARG001 (pytest passes it)
    return config.stash[_SESSION].options.scope


def _define_fixtures(session: _Session) -> ModuleType:
    """The fixtures that need to know the run, as a plugin of their own.

    To give a fixture its `pytestconfig` makes a test 4 % longer (by instructions; the stub and
    all else are 11 %): a function that is defined for the run needs none. It is no method, as
    pytest has deprecated those as fixtures of wide scopes.
    """

    @pytest.fixture(scope=_scope)  # type: ignore[arg-type]  # a str is a scope, checked in _options
    def channel_stub(channel_app: Callable[..., Any] | None) -> Iterator[ChannelServiceStub]:
        """The Channel API's stub: a ChannelServiceStub on a clock that the test moves.

        Example: `channel_stub.get_channel_messages(token) == ["hello"]`.
        """
        stub = session.build_for_fixture(channel_app)
        yield stub
        stub.close()

    @pytest.fixture(scope=_scope)  # type: ignore[arg-type]  # a str is a scope, checked in _options
    def channel_server(
        channel_stub: ChannelServiceStub, channel_app: Callable[..., Any] | None
    ) -> Iterator[ChannelServer]:
        """A live server for real browsers: channel_app, the service, its script.

        It listens on 127.0.0.1, or where `--channelstub-host` says.

        Example: `page.goto(channel_server.url_for("/chat", user="alice"))`.
        """
        with session.serve(channel_stub, channel_app) as server:
            yield server

    @pytest.fixture(scope="session")
    def make_channel_stub() -> MakeChannelStub:
        """A function that builds a stub, for fixtures of one's own at any scope.

        `with make_channel_stub(start="2024-02-29") as stub: yield stub`. It takes `start`, `clock`
        ('fake', 'freeze', 'system' or a FakeClock), `seed` and `app`, all by keyword. The seed is
        by default the line that calls it. A stub that is never closed ends with the session. Under
        Hypothesis that `with` in the test's body gives each example a stub of its own. Its type is
        `pytest_channelstub.MakeChannelStub`.
        """
        base = session.options.settings
        if "hypothesis" in sys.modules:
            # Hypothesis allows an example 200 ms; of the first one's these would take up to 150.
            for name in ("freezegun", "pytest_channelstub._service.stub"):
                importlib.import_module(name)

        def make_stub(
            *,
            start: Moment | None = base.start,
            clock: ClockName | FakeClock = base.clock,
            seed: int | str | None = base.seed,
            app: Callable[..., Any] | None = None,
        ) -> ChannelServiceStub:
            _options.check_stub_arguments(None if start is base.start else start, clock, seed)
            return session.build(base._replace(start=start, clock=clock, seed=seed), app)

        make_stub.__qualname__ = "make_channel_stub"  # for the texts of errors
        return make_stub

    fixtures = ModuleType("channelstub-fixtures")
    vars(fixtures).update(
        channel_stub=channel_stub,
        channel_server=channel_server,
        make_channel_stub=make_channel_stub,
    )
    return fixtures


@pytest.fixture(scope=_scope)  # type: ignore[arg-type]  # a str is a scope, checked in _options
def channel_clock(channel_stub: ChannelServiceStub) -> FakeClock:
    """The stub's clock: `channel_clock.advance(hours=2)` runs the timers due on the way."""
    return channel_stub.clock


@pytest.fixture
def channel_client(channel_stub: ChannelServiceStub) -> Iterator[ConnectClient]:
    """A function that connects a page: `channel_client("alice")` gives a ChannelClient.

    `channel_client(client_id, duration_minutes=None, keep_alive=False)`: the token lasts
    `duration_minutes` (120 by default); `keep_alive` refreshes the connection as time goes by.
    Its type is `pytest_channelstub.ConnectClient`.
    """
    from pytest_channelstub.client import Connector  # noqa: PLC0415 (when first used)

    connector = Connector(channel_stub)
    yield connector
    for client in connector.clients:
        client._end_lease()
