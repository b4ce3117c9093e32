"""The three clocks: the stub's own, the process's, and whatever time.time() says."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import datetime as dt
import itertools
import multiprocessing
import os
import queue
import re
import socket
import sqlite3
import subprocess
import sys
import threading
import time
import types
import xml.etree.ElementTree as ET

import anyio
import freezegun.api
import hypothesis
import hypothesis.strategies as st
import pytest
import time_machine
import trio
import urllib3.connection
from freezegun import freeze_time

from pytest_channelstub import channel
from pytest_channelstub._service import freeze

START = 1577836800.0
KEPT_TIME = time.time
REAL_FUNCTIONS = {name: getattr(time, name) for name in ("time", "monotonic", "perf_counter")}


def is_real(seconds):
    return abs(seconds - time.clock_gettime(time.CLOCK_REALTIME)) < 1000


def assert_nothing_is_frozen():
    fakes = {id(getattr(freezegun.api, name)) for name in freeze._FAKES.values()}
    assert [
        name
        for name, module in [*sys.modules.items()]
        if name != "freezegun.api" and not fakes.isdisjoint(map(id, [*vars(module).values()]))
    ] == []
    for lists in ("freeze_factories", "ignore_lists", "tick_flags", "tz_offsets"):
        assert getattr(freezegun.api, lists) == []
    assert {name: getattr(time, name) for name in REAL_FUNCTIONS} == REAL_FUNCTIONS
    assert is_real(time.time())


@pytest.fixture(autouse=True)
def _nothing_stays_frozen():
    yield
    assert_nothing_is_frozen()


@pytest.fixture
def frozen(make_channel_stub):
    """A stub whose clock holds the process."""
    with make_channel_stub(clock="freeze") as stub:
        yield stub


# The process stands at the stub's time.


def test_the_process_stands_at_the_stubs_time(frozen):
    clock = frozen.clock
    assert time.time() == clock.time() == START

    clock.advance(hours=1)
    assert dt.datetime.now(dt.UTC) == clock.now
    assert time.time() == clock.time() == START + 3600
    clock.move_to("2001-01-01")
    assert dt.date.today() == dt.date(2001, 1, 1)  # noqa: DTZ011 (as apps write)


def test_the_app_sees_the_time_of_each_event(frozen):
    seen = []

    def app(_, start_response):
        seen.append(time.time())
        start_response("200 OK", [])
        return []

    frozen.app = app
    frozen.connect_channel(channel.create_channel("alice"))
    frozen.clock.advance(60)

    assert seen == [START, START + 2]


# Threads, and what is not held.


def call_in_a_thread(function):
    results = queue.Queue()
    threading.Thread(target=lambda: results.put(function())).start()
    return results.get(timeout=5)


def call_in_a_timer(function):
    results = queue.Queue()
    threading.Timer(0, lambda: results.put(function())).start()
    return results.get(timeout=5)


def call_in_a_pool(function):
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        return pool.submit(function).result(5)


def call_in_a_thread_of_asyncio(function):
    return asyncio.run(asyncio.to_thread(function))


def call_in_a_thread_of_trio(function):
    return trio.run(trio.to_thread.run_sync, function)


def call_in_a_coroutine(function):
    async def call():
        await asyncio.sleep(0)
        return function()

    return asyncio.run(call())


@pytest.mark.parametrize(
    "call",
    [
        call_in_a_thread,
        call_in_a_timer,
        call_in_a_pool,
        call_in_a_thread_of_asyncio,
        call_in_a_thread_of_trio,
        call_in_a_coroutine,
    ],
)
def test_threads_and_coroutines_see_the_held_time(frozen, call):
    assert call(lambda: time.time()) == START  # noqa: PLW0108 (freezegun looks at who calls)
    assert call(time.time) == START
    assert call(lambda: dt.datetime.now(dt.UTC).timestamp()) == START


@pytest.mark.parametrize("name", ["giraffe", "queues", "threading_tools", "trio_app"])
def test_a_module_whose_name_begins_as_that_of_a_tool_sees_the_held_time(
    monkeypatch, make_channel_stub, name
):
    module = types.ModuleType(name)
    code = "import time\nfrom time import time as now\ndef ask(): return time.time(), now()"
    exec(code, vars(module))  # noqa: S102 (a module without a file)
    monkeypatch.setitem(sys.modules, name, module)

    with make_channel_stub(clock="freeze"):
        assert module.ask() == (START, START)


class Kept:
    """Has taken functions of `time` before the freeze."""

    now = staticmethod(time.time)

    def default(self, now=time.time):
        return now()


def ask_another_process():
    command = [sys.executable, "-Sc", "import time; print(time.time())"]
    return float(subprocess.check_output(command, timeout=60))  # noqa: S603 (our own Python)


def ask_a_file(tmp_path):
    (tmp_path / "file").touch()
    return (tmp_path / "file").stat().st_mtime


def ask_a_database():
    with contextlib.closing(sqlite3.connect(":memory:")) as database:
        ((seconds,),) = database.execute("select strftime('%s')")
    return int(seconds)


NOT_HELD = {
    "a database": lambda _: ask_a_database(),
    "another process": lambda _: ask_another_process(),
    "the times of files": ask_a_file,
    "time.clock_gettime": lambda _: time.clock_gettime(time.CLOCK_REALTIME),
    "a function kept in a default": lambda _: Kept().default(),
    "a function kept in a class": lambda _: Kept.now(),
}


@pytest.mark.parametrize("what", NOT_HELD)
def test_what_is_not_held_sees_real_time(frozen, tmp_path, what):
    assert is_real(NOT_HELD[what](tmp_path))


def test_sleeping_and_processor_times_are_real(frozen):
    before = time.process_time(), time.thread_time(), REAL_FUNCTIONS["monotonic"]()
    time.sleep(0.001)
    sum(range(1000))
    after = time.process_time(), time.thread_time(), REAL_FUNCTIONS["monotonic"]()

    assert all(later > earlier for earlier, later in zip(before, after, strict=True))
    assert after[0] < START


# What measures or waits goes by real time.


@pytest.mark.parametrize("name", sorted(freeze._REAL_TIME_MODULES))
def test_the_code_of_modules_that_measure_or_wait_sees_real_time(frozen, name):
    for module in (name, f"{name}.part"):
        code = {"__name__": module, "time": time, "datetime": dt}
        exec("def ask(): return time.time(), datetime.datetime.now().timestamp()", code)  # noqa: S102 (a module without a file)
        assert all(map(is_real, code["ask"]()))
    code = {"__name__": f"{name}_of_the_app", "time": time}
    exec("def ask(): return time.time()", code)  # noqa: S102 (a module without a file)
    assert code["ask"]() == START


def test_a_process_times_out(frozen):
    command = [sys.executable, "-Sc", "import time; time.sleep(60)"]
    with pytest.raises(subprocess.TimeoutExpired):
        subprocess.run(command, timeout=0.02, check=False)  # noqa: S603 (our own Python)


def test_waits_for_threads_queues_and_processes_time_out(frozen):
    with pytest.raises(queue.Empty):
        queue.Queue().get(timeout=0.01)
    with pytest.raises(concurrent.futures.TimeoutError):
        next(concurrent.futures.as_completed([concurrent.futures.Future()], timeout=0.01))
    condition = threading.Condition()
    with condition:
        assert not condition.wait_for(lambda: False, timeout=0.01)
    reader, _writer = multiprocessing.Pipe()
    assert multiprocessing.connection.wait([reader], timeout=0.01) == []


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_event_loops_sleep_and_time_out(frozen, backend):
    async def sleep():
        await anyio.sleep(0.01)
        with anyio.move_on_after(0.01) as scope:
            await anyio.sleep(60)
        return scope.cancelled_caught, anyio.current_time()

    timed_out, now = anyio.run(sleep, backend=backend)

    assert timed_out
    assert now != START


def test_what_anyio_calls_in_a_thread_sees_the_time(frozen):
    async def ask():
        return await anyio.to_thread.run_sync(time.time)

    assert anyio.run(ask) == START


def test_a_https_connection_is_not_warned_that_the_time_is_off(frozen):
    with socket.create_server(("127.0.0.1", 0)) as server:
        connection = urllib3.connection.HTTPSConnection(*server.getsockname(), timeout=0.01)
        with pytest.raises(TimeoutError):  # and not a SystemTimeWarning, which comes before
            connection.connect()


def test_an_example_may_advance_the_clock_by_days(frozen):
    @hypothesis.settings(max_examples=2, database=None, deadline=10_000)
    @hypothesis.given(st.integers(1, 30))
    def check(days):
        frozen.clock.advance(days=days)

    check()


def test_an_example_that_takes_longer_than_its_deadline_fails(frozen):
    @hypothesis.settings(max_examples=1, database=None, deadline=1)
    @hypothesis.given(st.none())
    def check(_):
        time.sleep(0.01)

    with pytest.raises(hypothesis.errors.DeadlineExceeded):
        check()


@pytest.mark.parametrize("clock", ["fake", "freeze"])
def test_each_example_may_have_a_stub_of_its_own(make_channel_stub, clock):
    seen = []

    @hypothesis.settings(max_examples=5, database=None, deadline=5_000)
    @hypothesis.given(st.integers(1, 100))
    def check(seconds):
        with make_channel_stub(clock=clock) as stub:
            stub.clock.advance(seconds)
            channel.create_channel("alice")
            seen.append((len(stub.timeline), stub.clock.elapsed == seconds))

    check()
    assert set(seen) == {(1, True)}


# A freeze that fails to begin, and modules that raise.


class Hostile:
    """Stands in `sys.modules`, as lazy modules do, and raises at every look."""

    def __getattribute__(self, name):
        raise LookupError(name)


class Named:
    __name__ = "named"

    @property
    def __dict__(self):
        raise OSError


@pytest.mark.parametrize("fault", [Hostile, Named, lambda: None, lambda: Kept])
def test_a_module_that_raises_does_not_keep_the_others_from_being_frozen(
    monkeypatch, make_channel_stub, fault
):
    monkeypatch.setitem(sys.modules, "a_fault", fault())
    other = types.ModuleType("other")
    other.now = time.time
    monkeypatch.setitem(sys.modules, "other", other)

    with make_channel_stub(clock="freeze"):
        assert time.time() == other.now() == START
    assert is_real(other.now())
    monkeypatch.undo()


def test_a_lazy_module_is_not_loaded(monkeypatch, make_channel_stub):
    class Lazy(types.ModuleType):
        def __getattr__(self, name):
            raise AssertionError(name)

        def __dir__(self):
            raise AssertionError

    monkeypatch.setitem(sys.modules, "lazy", Lazy("lazy"))

    with make_channel_stub(clock="freeze"):
        assert time.time() == START


def refuse(*_, **__):
    raise ConnectionRefusedError


def test_a_freeze_opens_no_socket(monkeypatch, make_channel_stub):
    monkeypatch.setattr(socket, "socket", refuse)
    monkeypatch.setattr(socket, "socketpair", refuse)

    with make_channel_stub(clock="freeze"):
        assert time.time() == START


@pytest.mark.parametrize("at", ["start", "middle"])
def test_a_freeze_that_fails_to_begin_leaves_nothing_behind(monkeypatch, make_channel_stub, at):
    begin = freezegun.api._freeze_time.start

    def fail(self):
        if at == "middle":
            begin(self)
        raise OSError

    with monkeypatch.context() as patch:
        patch.setattr(freezegun.api._freeze_time, "start", fail)
        with pytest.raises(OSError):  # noqa: PT011 (it has no text)
            make_channel_stub(clock="freeze")

    assert_nothing_is_frozen()
    with pytest.raises(AssertionError, match="no stub is active"):
        channel.create_channel("alice")


def test_nothing_calls_freezegun_any_more_when_it_forgets_the_time(monkeypatch, frozen):
    end, functions = freezegun.api._freeze_time.stop, []

    def look(self):
        functions.extend([time.time, dt.datetime])
        end(self)

    monkeypatch.setattr(freezegun.api._freeze_time, "stop", look)
    frozen.close()

    assert functions == [REAL_FUNCTIONS["time"], freezegun.api.real_datetime]


# Several freezes at a time.


class Ours:
    def __init__(self, start, make):
        self.start, self.make = start, make

    def begin(self):
        self.stub = self.make(clock="freeze", start=self.start)

    def move(self, seconds):
        self.stub.clock.advance(seconds)

    def end(self):
        self.stub.close()


class Theirs:
    def __init__(self, start, _):
        self.freezer = freeze_time(dt.datetime.fromtimestamp(start, dt.UTC))

    def begin(self):
        self.time = self.freezer.start()

    def move(self, seconds):
        self.time.tick(seconds)

    def end(self):
        self.freezer.stop()


def list_orders(kinds):
    """Every order in which freezes begin and end; freezegun's own end last in, first out."""

    def continue_order(order, running):
        if len(order) == 2 * len(kinds):
            yield tuple(order)
        for number, kind in enumerate(kinds):
            if number not in order:
                yield from continue_order([*order, number], [*running, number])
            elif number in running:
                newer = running[running.index(number) + 1 :]
                if kind is Ours or all(kinds[each] is Ours for each in newer):
                    left = [each for each in running if each != number]
                    yield from continue_order([*order, number], left)

    return continue_order([], [])


@pytest.mark.parametrize(
    ("kinds", "step"),
    [((Ours, Theirs), 1), ((Ours, Theirs, Theirs), 13), ((Ours, Ours, Theirs), 13)],
    ids=["two", "two of theirs", "two of ours"],
)
def test_the_freeze_that_began_last_is_seen_in_any_order_of_beginnings_and_ends(
    make_channel_stub, kinds, step
):
    step = 1 if os.environ.get("CHANNELSTUB_LONG") else step
    for order in itertools.islice(list_orders(kinds), 0, None, step):
        freezes = [
            kind(1000 * (number + 1), make_channel_stub) for number, kind in enumerate(kinds)
        ]
        running = []
        for number in order:
            if number in running:
                running.remove(number)
                freezes[number].end()
            else:
                running.append(number)
                freezes[number].begin()
            for each in running:  # also those that are not seen
                freezes[each].move(1)
            if running:
                assert time.time() // 1000 == running[-1] + 1, order
        assert_nothing_is_frozen()


def test_a_stub_left_open_within_a_freeze_of_another_is_seen_until_it_is_closed(make_channel_stub):
    with freeze_time("1999-12-31"):
        stub = make_channel_stub(clock="freeze")
        assert time.time() == START
    assert time.time() == START
    stub.close()
    assert is_real(time.time())


def test_advance_moves_the_freeze_that_the_stub_began(frozen):
    with freeze_time("1999-12-31") as theirs:
        frozen.clock.advance(10)
        assert dt.date.today().year == 1999  # noqa: DTZ011
        theirs.tick(1)
    assert time.time() == frozen.clock.time() == START + 10


def test_modules_loaded_during_a_freeze_see_the_real_time_afterwards(monkeypatch, frozen):
    module = types.ModuleType("late")
    exec("from time import time", vars(module))  # noqa: S102 (a module without a file)
    monkeypatch.setitem(sys.modules, "late", module)
    assert module.time() == START

    frozen.close()
    assert module.time is time.time


def test_a_system_clock_does_not_move_the_time_that_another_stub_holds(frozen, make_channel_stub):
    with make_channel_stub(clock="system") as stub:
        assert stub.clock.time() == START
        with pytest.raises(RuntimeError, match="which a stub with clock='freeze' holds now"):
            stub.clock.advance(1)


def test_a_travel_of_time_machine_is_refused_before_anything_is_frozen(make_channel_stub):
    with time_machine.travel("2001-01-01T00:00:00Z", tick=False):
        with pytest.raises(RuntimeError, match="use clock='system', which follows time-machine"):
            make_channel_stub(clock="freeze")
        assert not freezegun.api.freeze_factories
        assert dt.date.today().year == 2001  # noqa: DTZ011


def test_time_machine_refuses_to_travel_within_a_freeze(frozen):
    with pytest.raises(RuntimeError, match="freezegun"), time_machine.travel("2001-01-01"):
        pass
    assert time.time() == START


# pytest's own times, and other plugins.

MEASURED = """
    import time
    import pytest

    pytestmark = pytest.mark.channel_stub(clock="freeze")

    @pytest.fixture(scope="session")
    def never_closed(make_channel_stub):
        return make_channel_stub(clock="freeze", start="1999-12-31")

    def test_first(channel_stub, channel_clock):
        channel_clock.advance(days=30)

    def test_second(channel_clock, request):
        channel_clock.advance(days=-30 + 60)

    def test_third(never_closed):
        never_closed.clock.advance(days=3000)

    def test_fourth(channel_clock):
        channel_clock.move_to("2001-01-01")
"""


def test_pytests_durations_are_real(pytester):
    pytester.makepyfile(MEASURED)

    result = pytester.runpytest_inprocess(
        "-vv", "--durations=0", "--durations-min=0", "-oconsole_output_style=times",
        "--junitxml=junit.xml", "-pno:randomly",
    )  # fmt: skip

    result.assert_outcomes(passed=4)
    text = result.stdout.str()
    times = re.findall(r"(-?[\d.]+)(?:s|ms) (?:call|setup|teardown)|passed in (-?[\d.]+)s", text)
    assert len(times) >= 12
    assert all(0 <= float(first or second) < 100 for first, second in times)
    assert not re.search(r"\d+[hd] ", text)
    suite = ET.parse(pytester.path / "junit.xml").getroot()[0]  # noqa: S314 (just made)
    cases = [float(case.get("time")) for case in suite]
    assert all(0 <= seconds < 10 for seconds in [float(suite.get("time")), *cases])
    assert suite.get("timestamp")[:4] == time.strftime("%Y")


def test_reports_are_of_the_real_time(pytester):
    reprec = pytester.inline_run(pytester.makepyfile(MEASURED))

    reports = reprec.getreports("pytest_runtest_logreport")
    assert len(reports) == 12
    assert all(0 <= report.duration < 10 and is_real(report.start) for report in reports)


def test_the_time_limit_of_a_session_is_real(pytester):
    pytester.makepyfile(MEASURED)

    result = pytester.runpytest_inprocess("-ppytest_timeout", "--session-timeout=600")

    result.assert_outcomes(passed=4)


def test_a_test_that_hangs_is_stopped_in_real_time(pytester):
    pytester.makepyfile(
        """
        import time, pytest

        @pytest.mark.timeout(0.05, func_only=True)
        @pytest.mark.channel_stub(clock="freeze")
        def test_it(channel_clock):
            channel_clock.advance(days=1)
            time.sleep(60)
        """
    )

    result = pytester.runpytest_inprocess("-ppytest_timeout")

    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*Timeout*0.05*"])


def test_a_user_names_more_modules_that_see_real_time(pytester):
    pytester.makeini("[pytest]\nchannelstub_freeze_ignore = poller app.limits")
    pytester.makepyfile(poller="import time\ndef ask(): return time.time()")
    pytester.mkpydir("app")
    (pytester.path / "app" / "limits.py").write_text("from time import time as ask")
    (pytester.path / "app" / "views.py").write_text("import time\ndef ask(): return time.time()")
    pytester.makepyfile(
        """
        import poller, pytest
        from app import views

        @pytest.mark.channel_stub(clock="freeze")
        def test_it(channel_clock, make_channel_stub):
            assert poller.ask() > 1_700_000_000
            assert views.ask() == channel_clock.time()
            with make_channel_stub(clock="freeze", start=5):
                assert poller.ask() > 1_700_000_000
                assert views.ask() == 5
        """
    )

    result = pytester.runpytest_inprocess()

    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["*freeze_ignore=poller,app.limits (from ini *freeze_ignore)*"])


@pytest.mark.parametrize("name", ["a/b", "app.", "*"])
def test_what_is_not_a_modules_name_is_refused(pytester, name):
    pytester.makeini(f"[pytest]\nchannelstub_freeze_ignore = {name}")

    result = pytester.runpytest_inprocess()

    result.stderr.fnmatch_lines(
        [f"ERROR: ini channelstub_freeze_ignore: {name!r} is not allowed here: pass names of mod*"]
    )


# The fixtures of a test.

FIXTURES = """
    import time
    import pytest
    from freezegun import freeze_time

    pytestmark = pytest.mark.channel_stub(clock="freeze")
    SEEN = {}

    def see(name, scope="function", autouse=False):
        @pytest.fixture(scope=scope, autouse=autouse, name=name)
        def fixture():
            SEEN[name] = time.time()
            yield
            SEEN[name + " ended"] = time.time()
        return fixture

    of_module = see("of_module", "module")
    of_session = see("of_session", "session", autouse=True)
    always = see("always", autouse=True)
    before = see("before")
    after = see("after")

    def test_all(before, channel_stub, channel_clock, of_module, after):
        assert time.time() == channel_clock.time()
        channel_clock.advance(1)

    def test_closed_by_hand(before, channel_stub):
        channel_stub.close()
        assert time.time() == 1577836800

    def test_freezer_first(freezer, before, channel_clock):
        freezer.move_to("1999-12-31")
        assert time.time() < 1577836800
        channel_clock.advance(60)
        assert channel_clock.elapsed == 60
        assert time.time() < 1577836800

    def test_freezer_last(channel_stub, before, freezer):
        channel_stub.close()

    @freeze_time("1999-12-31")
    def test_decorated(before, channel_stub):
        assert time.strftime("%Y") == "1999"

    def test_failing(before, channel_stub):
        raise RuntimeError("on purpose")

    @pytest.mark.channel_stub(clock="fake")
    def test_another_clock(before, channel_stub):
        assert SEEN["before"] > 1_700_000_000

    def test_without_a_stub(before):
        assert SEEN["before"] > 1_700_000_000

    class TestMethods:
        def setup_method(self):
            assert time.time() == 1577836800

        def teardown_method(self):
            assert time.time() == 1577836801

        def test_it(self, channel_clock):
            channel_clock.advance(1)
"""


def test_the_time_is_held_from_a_tests_first_fixture_to_its_last(pytester):
    pytester.makepyfile(test_fixtures=FIXTURES)
    pytester.makeconftest(
        """
        import time

        def pytest_runtest_logfinish(nodeid):
            assert time.time() > 1_700_000_000, nodeid
            if nodeid.endswith("test_all"):
                import test_fixtures
                seen = dict(test_fixtures.SEEN)
                real = {name for name, at in seen.items() if at > 1_700_000_000}
                assert real == {"of_module", "of_session"}
                held = {at for name, at in seen.items() if name not in real}
                assert held == {1577836800, 1577836801}
                assert len(seen) == 8
        """
    )

    result = pytester.runpytest_inprocess("-ppytest_freezer", "-pno:randomly")

    result.assert_outcomes(passed=8, failed=1)
    result.stdout.fnmatch_lines(["*RuntimeError: on purpose"])


@pytest.mark.parametrize("scope", ["class", "module", "session"])
def test_a_wider_stub_holds_the_time_as_long_as_it_is_there(pytester, scope):
    pytester.makeini(f"[pytest]\nchannelstub_scope = {scope}\nchannelstub_clock = freeze")
    pytester.makepyfile(
        """
        import time, pytest

        @pytest.fixture(autouse=True)
        def always():
            assert time.time() == 1577836800
            yield
            assert time.time() > 1577836800

        class TestIt:
            def test_first(self, channel_stub, channel_clock):
                channel_clock.advance(1)
                assert time.time() == 1577836801
                channel_clock.move_to(1577836800)
                channel_clock.advance(2)
        """
    )

    pytester.runpytest_inprocess().assert_outcomes(passed=1)


def test_a_travel_that_goes_on_around_a_test_is_an_error_of_that_test(pytester):
    pytester.makepyfile(
        """
        import time, pytest, time_machine

        @pytest.fixture(scope="module", autouse=True)
        def travel():
            with time_machine.travel("2001-01-01T00:00Z"):
                yield

        @pytest.mark.channel_stub(clock="freeze")
        def test_it(channel_stub):
            pass

        @pytest.mark.channel_stub(clock="system")
        def test_beside_system(channel_clock):
            assert channel_clock.now.year == 2001
        """
    )

    result = pytester.runpytest_inprocess()

    result.assert_outcomes(errors=1, passed=1)
    result.stdout.fnmatch_lines(
        ["*RuntimeError: clock='freeze' cannot hold the process's time, as*"]
    )


# The other two clocks.

FAKE_IMPORTS = """
    import sys

    def test_it(channel_stub, channel_clock, channel_client):
        channel_client("alice")
        channel_clock.advance(5)
        assert "freezegun" not in sys.modules
"""


def test_a_fake_clock_never_imports_freezegun(pytester):
    pytester.makepyfile(FAKE_IMPORTS)

    pytester.runpytest_subprocess().assert_outcomes(passed=1)


SYSTEM = """
    import time
    import pytest
    import time_machine
    from freezegun import freeze_time
    from pytest_channelstub import channel

    pytestmark = pytest.mark.channel_stub(clock="system")

    def posts(stub):
        return [(request.url.split("/")[3], request.at) for request in stub.requests]

    def test_freeze_time(channel_stub, channel_clock, channel_client):
        with freeze_time("2020-01-01") as frozen:
            alice = channel_client("alice")
            frozen.tick(1)
            bob = channel_client("bob")
            frozen.tick(60)
            assert not alice.connected and not bob.connected
            assert [at for what, at in posts(channel_stub) if what == "disconnected"] == [
                1577836802.0, 1577836803.0
            ]
            assert channel_stub.timeline.start == 1577836800.0

    def test_freezer(channel_stub, channel_clock, channel_client, freezer):
        freezer.move_to("2020-01-01")
        alice = channel_client("alice")
        freezer.move_to("2020-01-01T00:00:01.9")
        assert alice.connected
        channel_clock.advance(0.2)
        assert not alice.connected
        assert time.time() == pytest.approx(1577836802.1)

    @time_machine.travel("2020-01-01T00:00:00Z", tick=False)
    def test_time_machine(channel_stub, channel_client):
        alice = channel_client("alice")
        with time_machine.travel("2020-01-01T00:00:05Z", tick=False):
            assert not alice.connected
        assert posts(channel_stub)[-1] == ("disconnected", 1577836802.0)

    def test_no_freezing_at_all(channel_stub, channel_clock, channel_client):
        before = time.time()
        alice = channel_client("alice")
        assert before <= channel_stub.timeline[-1].at <= time.time()
        assert alice.connected

    @pytest.mark.parametrize("move", ["advance", "tick", "move_to"])
    def test_nothing_that_this_clock_could_move(channel_clock, move):
        with pytest.raises(RuntimeError, match="follows time.time.*freezegun does not hold now"):
            getattr(channel_clock, move)(4_000_000_000)

    @freeze_time("2020-01-01")
    def test_advance_moves_freezegun_and_runs_each_timer_at_its_time(channel_stub, channel_clock):
        seen = []
        def app(environ, start_response):
            seen.append(time.time())
            start_response("200 OK", [])
            return []
        channel_stub.app = app
        channel_stub.connect_channel(channel.create_channel("alice"))
        channel_clock.advance(minutes=1)
        assert seen == [1577836800.0, 1577836802.0]
        assert time.time() == 1577836860.0
        channel_clock.tick(-30)
        assert time.time() == 1577836830.0
        channel_clock.move_to("2020-01-02")
        assert time.time() == 1577923200.0
"""


def test_a_system_clock_follows_whatever_holds_the_time(pytester):
    pytester.makepyfile(SYSTEM)

    result = pytester.runpytest_inprocess("-p", "pytest_freezer")

    result.assert_outcomes(passed=8)


@pytest.mark.parametrize("clock", ["fake", "freeze", "system"])
def test_a_client_is_kept_alive_on_every_clock(pytester, clock):
    pytester.makepyfile(
        """
        from freezegun import freeze_time
        from pytest_channelstub import channel

        @freeze_time("2020-01-01")
        def test_it(channel_stub, channel_clock, channel_client):
            alice = channel_client("alice", duration_minutes=1, keep_alive=True)
            bob = channel_client("bob", duration_minutes=1)
            channel_clock.advance(62.5)
            channel.send_message("alice", "still here")
            assert alice.connected and not bob.connected
            assert alice.messages == ["still here"]
            channel_clock.advance(0.5)
            assert not alice.connected
        """
    )

    pytester.runpytest_inprocess(f"--channelstub-clock={clock}").assert_outcomes(passed=1)


# What sees which time.

SEES_REAL_TIME = {
    "a wider fixture", "the event loop", "another process", "pytest's durations",
    "Hypothesis's deadline",
}  # fmt: skip
SEES_HELD_TIME = {
    "the test", "its fixtures", "its fixtures' teardown", "a thread", "a timer", "a coroutine",
    "a coroutine's thread",
}  # fmt: skip
SEEING = """
    import asyncio, subprocess, sys, threading, time
    import hypothesis, pytest
    import hypothesis.strategies as st
    from pytest_channelstub import channel

    def which(seconds, real=time.CLOCK_REALTIME):
        return "real" if abs(seconds - time.clock_gettime(real)) < 1000 else seconds

    @pytest.fixture(scope="module", autouse=True)
    def wider(seen):
        seen["a wider fixture"] = which(time.time())

    @pytest.fixture
    def before(seen):
        seen["its fixtures"] = which(time.time())
        yield
        seen["its fixtures' teardown"] = which(time.time())

    def test_record(seen, channel_stub):
        channel.create_channel("alice")
        seen["the stub's record"] = which(channel_stub.timeline[0].at)

    def test_time(before, seen, channel_stub):
        seen["the test"] = which(time.time())

    @pytest.mark.parametrize("kind", [threading.Thread, lambda target: threading.Timer(0, target)])
    def test_threads(seen, channel_stub, kind):
        results = []
        thread = kind(target=lambda: results.append(time.time()))
        thread.start()
        thread.join()
        seen["a timer" if isinstance(thread, threading.Timer) else "a thread"] = which(*results)

    def test_asyncio(seen, channel_stub):
        async def see():
            await asyncio.sleep(0.001)
            seen["a coroutine"] = which(time.time())
            seen["a coroutine's thread"] = which(await asyncio.to_thread(lambda: time.time()))
            seen["the event loop"] = which(asyncio.get_running_loop().time(), time.CLOCK_MONOTONIC)

        asyncio.run(see())

    def test_subprocess(seen, channel_stub):
        command = [sys.executable, "-Sc", "import time; print(time.time())"]
        seen["another process"] = which(float(subprocess.check_output(command, timeout=60)))

    def test_hypothesis(seen, channel_stub):
        @hypothesis.settings(max_examples=1, database=None, deadline=1)
        @hypothesis.given(st.none())
        def sleep(_):
            time.sleep(0.01)

        with pytest.raises(hypothesis.errors.DeadlineExceeded):
            sleep()
        seen["Hypothesis's deadline"] = "real"
"""


class Seen:
    """A plugin whose fixture takes what the inner tests see."""

    def __init__(self):
        self.times = {}

    @pytest.fixture(scope="session")
    def seen(self):
        return self.times


@pytest.mark.parametrize("clock", ["fake", "freeze", "system"])
def test_what_sees_which_time(pytester, clock):
    expected = dict.fromkeys(SEES_REAL_TIME, "real")
    expected |= dict.fromkeys(SEES_HELD_TIME, START if clock == "freeze" else "real")
    expected["the stub's record"] = "real" if clock == "system" else START
    plugin = Seen()

    reprec = pytester.inline_run(
        pytester.makepyfile(SEEING), f"--channelstub-clock={clock}", plugins=[plugin]
    )

    reprec.assertoutcome(passed=7)
    durations = [each.duration for each in reprec.getreports("pytest_runtest_logreport")]
    assert all(0 <= seconds < 100 for seconds in durations)
    assert plugin.times | {"pytest's durations": "real"} == expected


@pytest.mark.parametrize(
    ("marker", "year", "clock"),
    [
        ('start="2030-01-01"', 2030, "FrozenClock"),
        ('clock="fake"', dt.datetime.now(dt.UTC).year, "FakeClock"),
    ],
)
def test_a_fixture_may_add_the_marker_of_another_freeze(pytester, marker, year, clock):
    pytester.makeini("[pytest]\nchannelstub_clock = freeze\n")
    pytester.makepyfile(
        f"""
        import datetime
        import pytest

        @pytest.fixture(autouse=True)
        def added(request):
            request.applymarker(pytest.mark.channel_stub({marker}))

        def test_it(channel_clock):
            assert abs(datetime.datetime.now().year - {year}) < 2
            assert type(channel_clock).__name__ == "{clock}"

        def test_without(request, channel_clock):
            assert channel_clock.now.year == {2030 if year == 2030 else 2020}
        """
    )

    result = pytester.runpytest()

    result.assert_outcomes(passed=2)
    assert_nothing_is_frozen()
