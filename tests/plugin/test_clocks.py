"""The three clocks: the stub's own, the process's, and whatever time.time() says."""

from __future__ import annotations

import pytest

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


FREEZE = """
    import asyncio, datetime, threading, time
    import pytest
    from freezegun import freeze_time
    from pytest_channelstub import channel

    REAL = time.time
    pytestmark = pytest.mark.channel_stub(clock="freeze")

    def test_the_process_stands_at_the_stubs_time(channel_stub, channel_clock):
        assert time.time() == channel_clock.time() == 1577836800.0
        channel_clock.advance(hours=1)
        assert datetime.datetime.now(datetime.timezone.utc) == channel_clock.now
        assert time.time() == channel_clock.time() == 1577840400.0
        channel_clock.move_to("2001-01-01")
        assert datetime.date.today() == datetime.date(2001, 1, 1)

    def test_each_event_sees_the_process_at_its_own_instant(channel_stub, channel_clock):
        seen = []
        def app(environ, start_response):
            seen.append(time.time())
            start_response("200 OK", [])
            return []
        channel_stub.app = app
        channel_stub.connect_channel(channel.create_channel("alice"))
        channel_clock.advance(60)
        assert seen == [1577836800.0, 1577836802.0]

    def test_the_stub_never_reads_the_processs_time(channel_stub, channel_clock):
        stamps = []
        def work():
            channel.create_channel("alice")
            stamps.append(channel_stub.timeline[-1].at)
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
        assert stamps == [channel_clock.time()]

    def test_asyncio_keeps_running(channel_stub, channel_clock):
        async def work():
            await asyncio.sleep(0.001)
            return "done"
        assert asyncio.run(work()) == "done"

    @freeze_time("1999-12-31")
    def test_within_a_users_own_freeze_the_outer_time_is_back_afterwards(request):
        assert datetime.date.today().year == 1999
        clock = request.getfixturevalue("channel_clock")
        assert datetime.date.today().year == 2020
        request.getfixturevalue("channel_stub").close()
        assert datetime.date.today().year == 1999

    def test_that_fails(channel_clock):
        raise RuntimeError("on purpose")

    @pytest.fixture(scope="session")
    def wide(make_channel_stub):
        with make_channel_stub(clock="freeze", start=5) as stub:
            assert time.time() == 5
            yield stub

    def test_a_wider_stub_built_inside_is_seen_while_it_is_the_newest(channel_clock, request):
        wide = request.getfixturevalue("wide")
        assert time.time() == 5
        channel_clock.advance(1)
        assert time.time() == 5
        wide.clock.advance(1)
        assert time.time() == 6

    def test_the_wider_stub_still_holds_the_process(wide):
        assert time.time() == wide.clock.time()
        wide.close()
        assert abs(time.time() - REAL()) < 100
        assert time.time() > 1_700_000_000
"""
THAWED = """
    import time, datetime, sys
    import freezegun.api

    def test_nothing_is_frozen():
        assert not freezegun.api.freeze_factories
        assert time.time is freezegun.api.real_time
        assert time.time() > 1_700_000_000
        assert datetime.datetime is freezegun.api.real_datetime
"""


def test_freeze_holds_the_process_and_lets_it_go(pytester):
    pytester.makepyfile(test_a=FREEZE, test_b=THAWED)

    result = pytester.runpytest_subprocess("-rfE")

    result.assert_outcomes(passed=8, failed=1)
    result.stdout.fnmatch_lines(["*RuntimeError: on purpose"])


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
    def test_advance_ticks_freezegun_and_fires_at_each_instant(channel_stub, channel_clock):
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

    result = pytester.runpytest_subprocess("-p", "pytest_freezer")

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

    pytester.runpytest_subprocess(f"--channelstub-clock={clock}").assert_outcomes(passed=1)
