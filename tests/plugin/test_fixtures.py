"""What a test gets that asks for the plugin's fixtures."""

from __future__ import annotations

import contextlib
import os
import pathlib

import pytest

from pytest_channelstub import TokenTimedOutError, channel


def test_a_token_is_refused_once_the_clock_has_passed_its_end(
    channel_stub, channel_clock, channel_client
):
    alice = channel_client("alice", keep_alive=True)
    channel.send_message("alice", "hello")

    assert alice.messages == ["hello"]

    channel_clock.advance(hours=2, seconds=1)

    with pytest.raises(TokenTimedOutError, match="expired 0 s ago"):
        channel_stub.connect_channel(alice.token)


def test_a_client_that_is_kept_alive_times_out_two_seconds_after_its_token(
    channel_clock, channel_client
):
    alice = channel_client("alice", duration_minutes=1, keep_alive=True)

    channel_clock.advance(62.75)
    assert alice.connected

    channel_clock.advance(0.25)
    assert not alice.connected


def test_the_clock_is_the_stubs_own(channel_stub, channel_clock):
    assert channel_clock is channel_stub.clock


def test_a_client_that_the_test_does_not_hold_is_kept_alive_all_the_same(
    channel_stub, channel_clock, channel_client
):
    channel_client("alice", keep_alive=True)

    channel_clock.advance(minutes=1)

    assert channel_stub.is_connected("alice")


def test_a_page_with_an_expired_token_takes_nothing_from_another_page_when_it_leaves(
    channel_stub, channel_clock, channel_client
):
    token = channel.create_channel("alice", duration_minutes=1)
    channel_stub.connect_channel(token)

    lease = channel_stub._keep_alive(token)
    channel_clock.advance(61.5)
    page = channel_client("alice")
    channel_clock.advance(1)
    lease.end()

    channel_clock.advance(0.75)
    assert page.connected
    channel_clock.advance(0.25)
    assert not page.connected


def test_a_token_and_a_flag_in_place_of_a_client_id_and_minutes_are_refused(
    channel_client, channel_stub
):
    token = channel.create_channel("alice")
    for value in (token, token.encode()):
        with pytest.raises(ValueError, match=r"is a token, .* pass the client id, or connect with"):
            channel_client(value)
    with pytest.raises(TypeError, match=r"duration_minutes is True, .* keep_alive=True has"):
        channel_client("alice", True)

    assert channel_stub.connected_client_ids == ()
    assert [event.kind for event in channel_stub.timeline] == ["create"]


def test_an_error_points_at_the_line_of_the_test(pytester):
    pytester.makepyfile(
        """
        import re
        import pytest
        from pytest_channelstub import assert_dropped, channel

        def test_no_stub():
            channel.send_message("alice", "hello")

        def test_bad_client_id(channel_client):
            channel_client(7)

        def test_bad_advance(channel_clock):
            channel_clock.advance(-1)

        def test_bad_token(channel_stub):
            channel_stub.connect_channel("alice")

        def test_bad_kind(channel_stub):
            channel_stub.timeline.of(kind="dropped")

        def test_closed_stub(channel_stub):
            channel_stub.close()
            channel_stub.reset()

        def test_bad_start(make_channel_stub):
            make_channel_stub(start="today")

        def test_bad_app(make_channel_stub):
            make_channel_stub(app="chat:app")

        def test_bad_pattern(channel_stub):
            channel.send_message("alice", "hello")
            assert_dropped(channel_stub, "alice", re.compile(b"hello"))
        """
    )

    result = pytester.runpytest("--tb=short")

    result.assert_outcomes(failed=9)
    places = [line for line in result.outlines if ": in " in line]
    assert len(places) == 9, places
    assert all(": in test_" in place for place in places)
    result.stdout.fnmatch_lines_random(
        [
            "*no stub is active. Request the channel_stub fixture in this test (in a unittest *",
            '*@pytest.mark.usefixtures("channel_stub")), or build a stub with make_channel_stub()*',
            "*InvalidChannelClientIdError: the client id is 7, of type int: pass a str, *",
            "*ValueError: advance() takes a duration of 0 or more, got -1 s; use tick() or *",
            "E * pytest_channelstub.InvalidTokenError: 'alice' is not a channel token: pass what *",
        ]
    )


def test_a_stub_is_not_built_with_a_clock_or_a_seed_of_another_type(pytester):
    pytester.makepyfile(
        """
        import pytest

        @pytest.mark.parametrize("clock", [None, 5, "frozen", []])
        def test_clock(make_channel_stub, clock):
            with pytest.raises(ValueError, match="'fake', 'freeze', 'system' or a FakeClock"):
                make_channel_stub(clock=clock)

        @pytest.mark.parametrize("seed", [True, 1.5, []])
        def test_seed(make_channel_stub, seed):
            with pytest.raises(ValueError, match="pass a whole number or a string"):
                make_channel_stub(seed=seed)
        """
    )

    pytester.runpytest().assert_outcomes(passed=7)


def test_a_start_is_refused_beside_a_clock_that_would_ignore_it(pytester):
    pytester.makeini("[pytest]\nchannelstub_start = 2024-02-29\n")
    pytester.makepyfile(
        """
        import pytest
        from pytest_channelstub import FakeClock

        def test_a_fake_clock(make_channel_stub):
            with pytest.raises(ValueError, match="start has no effect with a FakeClock, which"):
                make_channel_stub(start="2030-01-01", clock=FakeClock())

        def test_the_systems_time(make_channel_stub):
            with pytest.raises(ValueError, match="start has no effect with clock='system', which"):
                make_channel_stub(start="2030-01-01", clock="system")

        @pytest.mark.parametrize("clock", [FakeClock(start=5), "system"])
        def test_the_ini_files_start_is_a_default(make_channel_stub, clock):
            assert make_channel_stub(clock=clock).clock.start != 1709164800.0

        def test_the_ini_files_start_is_there(make_channel_stub):
            assert make_channel_stub().clock.start == 1709164800.0
        """
    )

    pytester.runpytest().assert_outcomes(passed=5)


def test_an_argument_that_a_fixtures_function_does_not_take_is_an_error_with_the_fixtures_name(
    make_channel_stub, channel_client
):
    with pytest.raises(TypeError, match=r"^make_channel_stub\(\) got an unexpected .* 'strat'"):
        make_channel_stub(strat=5)
    with pytest.raises(TypeError, match=r"^channel_client\(\) missing 1 required"):
        channel_client()


def test_an_app_that_is_not_callable_is_refused_and_leaves_no_stub_active(make_channel_stub):
    with pytest.raises(TypeError, match="the app is 'x', of type str: pass a WSGI callable, or"):
        make_channel_stub(app="x")
    with pytest.raises(AssertionError, match="no stub is active"):
        channel.create_channel("alice")


def test_two_stubs_may_share_a_clock(channel_stub, channel_clock, make_channel_stub):
    with make_channel_stub(clock=channel_clock) as second:
        second.connect_channel(channel.create_channel("alice"))

        channel_clock.advance(2)

        assert second.clock is channel_clock
        assert not second.is_connected("alice")
        assert second.timeline[-1].at == channel_clock.start + 2


def test_fixtures_of_ones_own_take_the_place_of_the_plugins(pytester):
    pytester.makepyfile(
        """
        import pytest

        def answer(environ, start_response):
            start_response("200 OK", [])
            return []

        @pytest.mark.parametrize("channel_app", [None, answer])
        def test_app(channel_app, channel_client, channel_stub):
            channel_client("alice")
            assert channel_stub.app is channel_app
            assert channel_stub.requests[0].status == (200 if channel_app else None)

        class TestOwn:
            @pytest.fixture
            def channel_stub(self, make_channel_stub):
                with make_channel_stub(start=5) as stub:
                    yield stub

            def test_stub(self, channel_stub, channel_clock, channel_client):
                assert channel_clock is channel_stub.clock
                assert channel_clock.start == 5
                assert channel_client("alice").connected

        @pytest.fixture(scope="session")
        def too_wide(channel_clock):
            return channel_clock

        def test_scope(too_wide):
            pass
        """
    )

    result = pytester.runpytest()

    result.assert_outcomes(passed=3, errors=1)
    result.stdout.fnmatch_lines(["*ScopeMismatch: *function scoped fixture channel_clock*"])


def test_a_stub_that_is_never_closed_ends_with_the_session(pytester):
    pytester.makepyfile(
        """
        def test_it(make_channel_stub):
            stub = make_channel_stub()
            stub._closing.append(lambda: print("ENDED"))
        """
    )

    result = pytester.runpytest("-s")

    result.assert_outcomes(passed=1)
    assert "ENDED" in result.stdout.str()


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such names of files")
def test_a_file_whose_name_is_not_utf8_has_tests_as_any_other(pytester):
    path = os.fsdecode(os.fsencode(pytester.path / "test_") + b"\xff.py")
    with contextlib.suppress(OSError):  # where the file system takes no such name
        pathlib.Path(path).write_text("def test_it(channel_stub): assert channel_stub.seed")

        result = pytester.runpytest(path, "-p", "no:cacheprovider")  # which fails by itself

        result.assert_outcomes(passed=1)


@pytest.mark.parametrize(
    ("argument", "text"),
    [
        ("seed=1.5", "seed: 1.5 is not allowed here: pass a whole number or a string"),
        ("seed='\\ud800'", "seed: * is not allowed here: pass a string without lone surrogates, *"),
        ("clock='frozen'", "'frozen' is not allowed here: pass clock='fake', 'freeze', *"),
    ],
)
def test_a_stub_that_is_refused_is_not_active(pytester, argument, text):
    pytester.makepyfile(
        f"""
        import pytest
        from pytest_channelstub._service.registry import registry

        def test_it(make_channel_stub):
            with pytest.raises(ValueError) as caught:
                make_channel_stub({argument})
            assert not registry.stubs()
            print(caught.value)
        """
    )

    result = pytester.runpytest("-s")

    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines([f"*{text}"])
