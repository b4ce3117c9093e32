"""The stubs and servers of a pytest run: built, reset between tests, closed."""

from __future__ import annotations

import contextlib
import inspect
import itertools
import traceback
import weakref
from functools import partial
from typing import TYPE_CHECKING, Any, NoReturn, Protocol

import pytest

from pytest_channelstub._plugin import options as _options
from pytest_channelstub._record.frames import hide_frame
from pytest_channelstub._service.registry import registry

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pytest_channelstub._plugin.options import ClockName, Settings
    from pytest_channelstub._record.timeline import Source, Timeline
    from pytest_channelstub._service.clock import FakeClock, Moment
    from pytest_channelstub._service.freeze import FrozenClock
    from pytest_channelstub._service.stub import ChannelServiceStub
    from pytest_channelstub.web.server import ChannelServer

# pytest's tracebacks: see hide_frame.
__tracebackhide__ = hide_frame

MOST_STUBS = 8
"""How many stubs of one test are kept and reported: Hypothesis may have it build thousands."""

_NODES: dict[str, Any] = {
    "function": pytest.Item,
    "class": pytest.Class,
    "module": pytest.Module,
    "session": pytest.Session,
}


class MakeChannelStub(Protocol):
    """The type of what the fixture `make_channel_stub` gives.

    Example:
        >>> def stub(make_channel_stub: MakeChannelStub) -> Iterator[ChannelServiceStub]: ...
    """

    def __call__(
        self,
        *,
        start: Moment | None = ...,
        clock: ClockName | FakeClock = ...,
        seed: int | str | None = ...,
        app: Callable[..., Any] | None = None,
    ) -> ChannelServiceStub:
        """Build a stub."""


# What a test may take for something that moves a stub's clock.
_OTHER_TIMES = {"freeze_time", "freezer", "frozen_time", "sleep", "time_machine", "travel"}


class WatchedStub:
    """A stub of this run: what a test's report shows of it, and whether to reset it."""

    def __init__(self, stub: ChannelServiceStub) -> None:
        self.timeline: Timeline = stub.timeline
        # The index of this test's first event; 0 unless the timeline holds earlier tests, too.
        self.first = 0
        # Whether the stub was built in this test.
        self.is_new = True
        # The stub, if the plugin has built it. Any other is freed when its owner drops it.
        self.owned: ChannelServiceStub | None = None
        self.reference = weakref.ref(stub)
        # Whether it is that of `channel_stub`, and the app with which that was built.
        self.is_of_fixture = False
        self.app: Callable[..., Any] | None = None
        self._origin = stub._origin

    def is_open(self) -> bool:
        """Whether the stub still exists, and is not closed."""
        stub = self.reference()
        return stub is not None and not stub._is_closed

    def describe_origin(self) -> str:
        """Which stub it is, in a heading: "channel_stub", "test_chat.py:41 in test_it"."""
        from pytest_channelstub._record.formatting import format_source  # noqa: PLC0415 (only a failure needs it)

        return "channel_stub" if self.is_of_fixture else format_source(self._origin)

    def built_by(self) -> str:
        """Where the stub was built, to go on in a sentence."""
        from pytest_channelstub._record.formatting import describe_source  # noqa: PLC0415 (only a failure needs it)

        if self.is_of_fixture:
            return "is that of the fixture channel_stub"
        return f"was built by {describe_source(self.describe_origin())}"

    def describe_left_messages(self, strict: frozenset[str]) -> list[str]:
        """The messages that `strict` does not allow, a line each."""
        if not strict:
            return []
        from pytest_channelstub._record.remarks import describe_left_messages  # noqa: PLC0415 (only with strict)

        return describe_left_messages(self.timeline, strict)

    def skip_earlier_events(self) -> None:
        """Have `strict` and the report see this test's events alone, also in an old epoch."""
        before, self.first = self.first, len(self.timeline)
        self.timeline._acknowledge(range(before, self.first))


class Session:
    """What the plugin knows of a run, and of the test that is under way."""

    def __init__(self, config: pytest.Config) -> None:
        self.config = config
        self.options = _options.read_run_options(config)
        # What the current test asks for.
        self.settings = self.options.settings
        # The stubs of the current test, and older ones that are still open; and how many of the
        # current test's were taken off this list.
        self.watched: list[WatchedStub] = []
        self.left_out = 0
        # What `strict` has found in the first of those that left messages.
        self.left_messages: list[str] = []
        # Whether what outlives the current test has been reset for it.
        self.is_reset = False
        # What the current test's phases came to, by phase.
        self.outcomes: dict[str, str] = {}
        # What the run's end has to say beside pytest's own summary.
        self.notes: list[str] = []
        self._item: Any = None  # a pytest.Item as soon as a test begins
        self._markers: list[pytest.Mark] = []
        self._own_markers = 0
        self._held_clock: FrozenClock | None = None
        self._servers: list[ChannelServer] = []
        self._app_errors: list[BaseException] = []
        self._undo = contextlib.ExitStack()
        self._workers = 0
        registry.observers.append(self._watch)

    @property
    def has_failed(self) -> bool:
        """Whether the current test, or a subtest of it, has been reported as failed."""
        return "failed" in self.outcomes.values()

    def note_outcome(self, when: str, outcome: str) -> None:
        """Note what a phase of the current test came to."""
        # Subtests report on the way, and the test after them says "passed" all the same.
        if self.outcomes.get(when) != "failed":
            self.outcomes[when] = outcome

    # A test.

    def prepare(self, item: pytest.Item) -> None:
        """Read a test's markers, before anything is built for it."""
        after = f"after {getattr(self._item, 'nodeid', 'the start')}"
        for each in self.watched:
            if each.owned is not None:  # what is due by now belongs to the last test
                self._attempt(each.owned._touch, after)
        for error in self.take_app_errors():
            self._note(error, after)
        self._item, self._markers, self._own_markers = item, [], -1
        self.settings = self.options.settings
        self._held_clock = None
        self.is_reset, self.left_out, self.left_messages = False, 0, []
        self.outcomes.clear()
        self.watched = [each for each in self.watched if each.is_open()]
        for each in self.watched:
            each.is_new = False
            each.skip_earlier_events()
        self.read_markers()

    def read_markers(self) -> None:
        """Read the test's markers, where a fixture has added one since the last time."""
        if len(self._item.own_markers) == self._own_markers:
            return
        self._own_markers = len(self._item.own_markers)
        markers = [each for each in self._item.iter_markers() if each.name in _options.MARKERS]
        added = [each for each in markers if not any(each is other for other in self._markers)]
        if added:
            self._markers, before = markers, self.settings
            self.settings = _options.read_item_options(self._item, self.options)
            self._check_marker_scope()
            self._check_added(added)
            if self.is_reset:
                self._apply_settings()
                if (before.start, before.clock) != (self.settings.start, self.settings.clock):
                    self._hold_time()

    def begin_test(self) -> None:
        """Once a test: reset what outlives it, and have calls fail as the test asks."""
        is_reset, self.is_reset = self.is_reset, True
        self.read_markers()
        if is_reset:
            return
        for each in self.watched.copy():
            if each.owned is not None:
                begin = partial(each.owned._begin_epoch, self.settings.reset)
                self._attempt(begin, f"before {self._item.nodeid}")
                each.skip_earlier_events()
        self._apply_settings()
        self._follow_overrides()
        self._hold_time()

    def check_overrides(self) -> None:
        """Refuse a clock or a server that belongs to another stub than the test's own."""
        stub, clock = self.funcarg("channel_stub"), self.funcarg("channel_clock")
        served = self.funcarg("channel_server")
        if stub is None:
            return
        others = [each.owned for each in self.watched if each.owned not in (None, stub)]
        name = instead = ""
        if getattr(stub, "clock", clock) is not clock and any(clock is one.clock for one in others):
            name, instead = "channel_clock", "return channel_stub.clock"
        elif any(server._stub in others for server in self._servers if server is served):
            name = "channel_server"
            instead = "with ChannelServer(channel_stub, channel_app) as server: yield server"
        if name:
            self._fail(
                f"{name} belongs to another stub, which the {self.options.scope} shares, and "
                f"channel_stub is overridden here: override {name} beside it ({instead})"
            )

    def lift_failing_calls(self) -> None:
        """Have no call fail any more, as the test is over."""
        if self.settings.failing:
            self.settings = self.settings._replace(failing=())
            self._apply_settings()

    def end_test(self) -> None:
        """Undo what was set for the time of the test."""
        self._undo.close()

    def used_stubs(self) -> list[WatchedStub]:
        """The stubs that the current test has built, acted on or asked for."""
        arguments = getattr(self._item, "funcargs", {}).values()
        asked = [id(value) for value in arguments if value is not None]
        return [
            each
            for each in self.watched
            if each.is_new or len(each.timeline) > each.first or id(each.reference()) in asked
        ]

    def find_other_time(self) -> str:
        """What the test names that moves another time than a stub's; empty if nothing."""
        function = inspect.unwrap(getattr(self._item, "function", print))
        names = [*getattr(self._item, "fixturenames", ())]
        names += getattr(getattr(function, "__code__", None), "co_names", ())
        return next((name for name in names if name in _OTHER_TIMES), "")

    def closed_stubs(self, stub: object) -> list[ChannelServiceStub]:
        """The stubs that the current test has built after this one, and closed, oldest first."""
        stubs = [each.reference() for each in self.watched]
        newer = stubs[stubs.index(stub) + 1 :] if stub in stubs else []
        return [each for each in newer if each is not None and each._is_closed]

    def check_markers_used(self) -> None:
        """Warn of a marker that does nothing for the test's stubs."""
        own = [each for each in self._item.own_markers if each.name in _options.MARKERS]
        name = own[0].name if own else ""
        keyword = _options.find_build_keyword(own)
        # Of a marker; the ini file's holds for the run.
        is_story = self.settings.reset == "nothing" != self.options.settings.reset
        is_own = self.options.scope == "function" and all(
            each.is_new and each.is_of_fixture for each in self.watched
        )
        reason = ""
        if not any(each.owned is not None or each.is_new for each in self.watched):
            reason = "as the test has no stub: request channel_stub"
        elif keyword and self.funcarg("channel_stub") is None:
            name = f"channel_stub({keyword}=...)"
            reason = f"as the test has no channel_stub: pass {keyword} to make_channel_stub"
        elif is_own and is_story:
            name = 'channel_reset("nothing")'
            reason = "as each test has a stub of its own: set channelstub_scope in the ini file"
        if name and reason:
            text = f"@pytest.mark.{name} does nothing, {reason}, or take the marker away"
            self._item.warn(pytest.PytestWarning(f"{self._item.nodeid}: {text}"))

    # Stubs.

    def build(self, settings: Settings, app: Callable[..., Any] | None) -> ChannelServiceStub:
        """Build a stub, and close it at the end of the run if nobody does."""
        # Imported only when a test asks for a stub: it takes 20 ms.
        from pytest_channelstub._service.stub import ChannelServiceStub  # noqa: PLC0415
        from pytest_channelstub._service.wsgi import check_app  # noqa: PLC0415

        check_app(app)  # before there is a stub, which would stay active
        clock = self._make_clock(settings)
        stub = ChannelServiceStub(time_func=clock.time)
        if settings.seed is not None:
            stub.seed = settings.seed
        stub.app = app
        stub._presence = (self.settings if self.is_reset else settings).presence
        stub._failing = self.settings.failing
        self._find(stub).owned = stub
        if settings.clock == "freeze":
            stub._closing.append(clock._thaw)
            try:
                clock._freeze()
            except BaseException:
                stub.close()
                raise
        return stub

    def build_for_fixture(self, app: Callable[..., Any] | None) -> ChannelServiceStub:
        """Build the stub of `channel_stub`, for the current test or what is around it."""
        from pytest_channelstub._service.wsgi import check_app  # noqa: PLC0415 (as in build)

        check_app(app, "what the fixture channel_app returns")
        self.read_markers()
        settings, node = self.settings, self._node_of_scope()
        if node is not self._item:
            settings = _options.read_settings(node, self.options.settings)
        if self._held_clock is not None:
            settings = settings._replace(clock=self._held_clock)
        stub = self.build(settings, app)
        if settings.seed is None:
            # A file's name may hold what is no UTF-8.
            stub.seed = node.nodeid.encode(errors="backslashreplace").decode()
        watched = self._find(stub)
        watched.is_of_fixture, watched.app = True, app
        return stub

    def close(self) -> None:
        """Close the stubs that nobody has closed, the newest first."""
        for each in reversed(self.watched):
            if each.owned is not None:
                each.owned.close()
        self.watched.clear()
        registry.observers.remove(self._watch)

    # Servers.

    @contextlib.contextmanager
    def serve(
        self, stub: ChannelServiceStub, app: Callable[..., Any] | None
    ) -> Iterator[ChannelServer]:
        """A live server, for as long as the `with` lasts."""
        port = getattr(self.config, "workerinput", {}).get("channelstub_port", self.options.port)
        try:
            from pytest_channelstub.web.server import ChannelServer  # noqa: PLC0415 (an extra)

            server = ChannelServer(stub, app, port, self.options.host)
        except (ImportError, OSError) as error:
            raise pytest.fail.Exception(str(error), pytrace=False) from None
        server._find_origin = self._test_line
        self._servers.append(server)
        try:
            yield server
        finally:
            self._servers.remove(server)
            server.stop()
            self._app_errors += server.take_errors()

    def take_app_errors(self) -> list[BaseException]:
        """What apps have raised in the threads of a server since the last call."""
        for server in self._servers:
            self._app_errors += server.take_errors()
        errors, self._app_errors = self._app_errors, []
        return errors

    def check_app_errors(self) -> None:
        """Fail a test during which the app raised under a server, unless it has failed already."""
        self._app_errors = self.take_app_errors()
        if self._app_errors and not self.has_failed:
            raise self._app_errors.pop(0)

    def number_worker(self, node: Any) -> None:
        """Give one of xdist's workers a port of its own, counted from the one given."""
        if self.options.port:
            port = self.options.port + self._workers
            _options.check_port(port)
            node.workerinput["channelstub_port"] = port
            self._workers += 1

    # Details.

    def _watch(self, stub: ChannelServiceStub) -> None:
        alike = (each for each in self.watched if each.is_new and each._origin == stub._origin)
        # What earlier tests have left does not count: a test's tokens are the same without them.
        stub._number = sum(each.is_open() for each in alike)
        self.watched.append(WatchedStub(stub))
        if len(self.watched) > MOST_STUBS:
            # The first is most often that of the fixture.
            gone = next((each for each in self.watched[1:] if not each.is_open()), None)
            if gone is not None:
                with contextlib.suppress(ValueError):  # another thread has built one, too
                    self.watched.remove(gone)
                    self.left_out += 1
                    if not self.left_messages:
                        self.left_messages = gone.describe_left_messages(self.settings.strict)

    def _find(self, stub: ChannelServiceStub) -> WatchedStub:
        return next(each for each in reversed(self.watched) if each.reference() is stub)

    def _apply_settings(self) -> None:
        for each in self.watched:
            if each.owned is not None:
                each.owned._failing = self.settings.failing
                each.owned._presence = self.settings.presence

    def _make_clock(self, settings: Settings) -> Any:
        from pytest_channelstub._service import clock as clocks  # noqa: PLC0415 (only with a stub)

        if isinstance(settings.clock, clocks.FakeClock):
            return settings.clock
        start = clocks.DEFAULT_START if settings.start is None else settings.start
        if settings.clock == "freeze":
            from pytest_channelstub._service.freeze import FrozenClock  # noqa: PLC0415 (as above)

            return FrozenClock(start, self.options.freeze_ignore)
        return clocks.SystemClock() if settings.clock == "system" else clocks.FakeClock(start)

    def _hold_time(self) -> None:
        """Hold the process's time for a test, from before its first fixture to after its last."""
        if self._held_clock is not None:  # a fixture has asked for another
            self._held_clock._thaw()
            self._held_clock = None
        is_asked = "channel_stub" in getattr(self._item, "fixturenames", ())
        if self.settings.clock != "freeze" or self.options.scope != "function" or not is_asked:
            return
        clock = self._make_clock(self.settings)
        try:
            clock._freeze()
        except RuntimeError:  # pytest's fixtures break when a hook raises; the fixture raises it
            return
        # Called after those of the fixtures, which are added later.
        self._item.addfinalizer(clock._thaw)
        self._held_clock = clock

    def _follow_overrides(self) -> None:
        """Use the `channel_app` nearest to the test, also on a stub built with another."""
        stub = self.funcarg("channel_stub")
        shared = next((each for each in self.watched if each.owned is stub), None)
        if stub is None or shared is None or not shared.is_of_fixture:
            return
        app = self.funcarg("channel_app", shared.app)
        middlewares = (server._middleware for server in self._servers)
        served = [each for each in middlewares if each.stub is stub and each.app is not app]
        for owner in served if app is shared.app else [stub, *served]:
            self._undo.callback(setattr, owner, "app", owner.app)
            owner.app = app

    def funcarg(self, name: str, default: Any = None) -> Any:
        """What the current test was given by a fixture."""
        return getattr(self._item, "funcargs", {}).get(name, default)

    def _node_of_scope(self) -> pytest.Item | pytest.Collector:
        """The test itself, or the node that the stub is built for."""
        # pytest builds it for the test itself where there is no class.
        node: pytest.Item | pytest.Collector | None
        node = self._item.getparent(_NODES[self.options.scope])
        return node or self._item

    def _fail(self, problem: str) -> NoReturn:
        pytest.fail(f"{self._item.nodeid}: {problem}", pytrace=False)

    def _check_marker_scope(self) -> None:
        """Refuse a marker of the test where its class, module or session shares the stub."""
        scope = self.options.scope
        if scope == "function" or "channel_stub" not in getattr(self._item, "fixturenames", ()):
            return
        around, chain = self._node_of_scope(), reversed(self._item.listchain())
        inner = itertools.takewhile(lambda node: node is not around, chain)
        name = _options.find_build_keyword([each for node in inner for each in node.own_markers])
        if name is not None:
            place = f"mark the {scope}"
            if scope == "session":
                place = f"set the ini option channelstub_{name}"
            self._fail(
                f"@pytest.mark.channel_stub({name}=...) comes too late: the stub is "
                f"built once for the {scope}; {place}, or use channelstub_scope=function"
            )

    def _check_added(self, added: list[pytest.Mark]) -> None:
        """Refuse a marker that a fixture has added after the time at which it counts."""
        is_built = any(each.is_of_fixture and each.is_new for each in self.watched)
        keyword = _options.find_build_keyword(added) if is_built else None
        if self.is_reset and any(each.name == "channel_reset" for each in added):
            marker, done = "channel_reset(...)", "reset"
        elif keyword is not None:
            marker, done = f"channel_stub({keyword}=...)", "built"
        else:
            return
        self._fail(
            f"a fixture has added @pytest.mark.{marker} too late: the stub is {done} already. "
            "Mark the test itself"
        )

    def _test_line(self) -> Source | None:
        """The first line of the test that is under way."""
        function: Any = getattr(self._item, "function", None)
        code = getattr(inspect.unwrap(function), "__code__", None)
        return None if code is None else (code, code.co_firstlineno)

    def _attempt(self, call: Callable[[], object], when: str) -> None:
        """Make a call, and note what the app raises: it fails no test but its own."""
        try:
            call()
        except Exception as error:  # noqa: BLE001 (of the app; pytest's fixtures break when a hook raises)
            self._note(error, when)

    def _note(self, error: BaseException, when: str) -> None:
        """Have the run's end tell of an error of the app."""
        what = traceback.format_exception_only(error)[-1].strip()
        self.notes.append(f"{when} the app raised: {what}")
