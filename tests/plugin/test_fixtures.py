"""What a test gets that asks for the plugin's fixtures."""

from __future__ import annotations

import pytest

from pytest_channelstub import TokenTimedOutError, channel


def test_a_token_is_refused_once_the_clock_has_passed_its_end(
    channel_stub, channel_clock, channel_client
):
    alice = channel_client("alice", keep_alive=True)
    channel.send_message("alice", "hello")

    assert alice.messages == ["hello"]

    channel_clock.advance(hours=2, seconds=1)

    with pytest.raises(TokenTimedOutError, match="valid until"):
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


def test_a_page_whose_token_has_ended_takes_nothing_from_another_page_when_it_leaves(
    channel_stub, channel_clock, channel_client
):
    token = channel.create_channel("alice", duration_minutes=1)
    channel_stub.connect_channel(token)

    with channel_stub.hold("alice", token):
        channel_clock.advance(61.5)
        page = channel_client("alice")
        channel_clock.advance(1)

    channel_clock.advance(0.75)
    assert page.connected
    channel_clock.advance(0.25)
    assert not page.connected


def test_an_error_points_at_the_line_of_the_test(pytester):
    pytester.makepyfile(
        """
        import pytest
        from pytest_channelstub import channel

        def test_no_stub():
            channel.send_message("alice", "hello")

        def test_bad_client_id(channel_client):
            channel_client(7)

        def test_bad_advance(channel_clock):
            channel_clock.advance(-1)

        def test_bad_token(channel_stub):
            channel_stub.connect_channel("alice")
        """
    )

    result = pytester.runpytest("--tb=short")

    result.assert_outcomes(failed=4)
    places = [line for line in result.outlines if ": in " in line]
    assert len(places) == 4, places
    assert all(": in test_" in place for place in places)
    result.stdout.fnmatch_lines_random(
        [
            "*no stub is in force. Request the channel_stub fixture in this test, or *",
            "*InvalidChannelClientIdError: the client id is 7, of type int: pass a str of *",
            "*ValueError: a clock is advanced forwards, and -1 s is negative: *",
            "*InvalidTokenError: 'alice' is no channel token: pass what create_channel returned",
        ]
    )
