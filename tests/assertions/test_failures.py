"""What a failure says, to the letter, and that its advice helps.

Every test of a text is followed by one that does what the text advises.
"""

from __future__ import annotations

import contextlib
import json
import re
import unicodedata
import warnings

import pytest

from pytest_channelstub import (
    ANY,
    ChannelAppWarning,
    ChannelClient,
    ChannelServiceStub,
    FakeClock,
    InvalidTokenError,
    TokenTimedOutError,
    apiproxy_errors,
    assert_connected,
    assert_disconnected,
    assert_dropped,
    assert_not_sent,
    assert_queued,
    assert_sent,
    assert_token_expired,
    assert_token_valid,
    channel,
)

DECOMPOSED = unicodedata.normalize("NFD", "jos\u00e9")
CYRILLIC = "\u0430lice"
SILENCE_HINT = (
    "  hint: Was a branch not taken, or an exception caught? Work that is scheduled may not have "
    "run yet: channel_stub.wait_for('send', 'alice') waits for it."
)


def failure_of(assertion, *arguments, **keywords):
    """The text of a failure without the timeline, and with `N` for the numbers of lines."""
    with pytest.raises(AssertionError) as caught:
        assertion(*arguments, **keywords)
    text = str(caught.value).partition("\ntimeline:")[0]
    return re.sub(r"\.py:\d+", ".py:N", text).split("\n")


def notify(client_id, message):
    """Send as an app does that lets no error of the channel spoil its own work."""
    with contextlib.suppress(channel.Error, apiproxy_errors.Error):
        channel.send_message(client_id, message)


def answer(status, body=b""):
    """An app that answers everything alike."""

    def app(environ, start_response):
        start_response(status, [])
        return [body]

    return app


def greet(environ, start_response):
    """An app that greets whom it hears of."""
    if environ["PATH_INFO"] == "/_ah/channel/connected/":
        channel.send_message("alice", "welcome")
    start_response("200 OK", [])
    return []


SENT = "  sent by notify() at test_failures.py:N"
IDLE = "  nothing is pending; alice is connected, since +0.0 s"


# A message that was dropped.


def test_a_message_dropped_before_its_client_connects(channel_stub, channel_clock, channel_client):
    channel_clock.advance(1.5)
    notify("bob", '{"move": "e4"}')
    channel_clock.advance(0.5)
    channel_client("bob")

    assert failure_of(assert_queued, channel_stub, "bob", {"move": "e4"}) == [
        (
            "{'move': 'e4'} is not pending for bob: it was dropped at +1.5 s, before bob connected "
            "(+2.0 s)"
        ),
        SENT,
        "  connected by test_a_message_dropped_before_its_client_connects() at test_failures.py:N",
        "  nothing is pending; bob is connected, since +2.0 s",
        "  hint: Connect it before the app sends: channel_client('bob').",
    ]


def test_a_client_that_connects_before_the_app_sends_has_the_message(channel_stub, channel_client):
    channel_client("bob")
    notify("bob", '{"move": "e4"}')
    assert_queued(channel_stub, "bob", {"move": "e4"})


def test_a_message_dropped_in_the_second_in_which_its_client_connects(channel_stub, channel_client):
    notify("bob", "hi")
    channel_client("bob")
    assert failure_of(assert_queued, channel_stub, "bob", "hi")[0] == (
        "'hi' is not pending for bob: it was dropped at +0.0 s: bob was not connected yet, and "
        "connected only afterwards"
    )


def test_a_message_dropped_after_a_time_out(channel_stub, channel_clock, channel_client):
    channel_client("alice")
    channel_clock.advance(5)
    notify("alice", "hi")

    assert failure_of(assert_queued, channel_stub, "alice", "hi") == [
        (
            "'hi' is not pending for alice: it was dropped at +5.0 s: alice timed out at +2.0 s, "
            "idle for 2 s"
        ),
        SENT,
        (
            "  hint: Keep it connected: channel_client('alice', keep_alive=True), or call its "
            "poll() more often than every 2 s."
        ),
    ]


@pytest.mark.parametrize("keep_alive", [True, False])
def test_a_client_that_is_kept_alive_or_polls_more_often_than_every_2_s_has_the_message(
    keep_alive, channel_stub, channel_clock, channel_client
):
    alice = channel_client("alice", keep_alive=keep_alive)
    for _ in range(3):
        channel_clock.advance(1.9)
        keep_alive or alice.poll()
    notify("alice", "hi")
    assert_queued(channel_stub, "alice", "hi")


def test_a_message_dropped_after_a_kept_alive_client_outlived_its_token(
    channel_stub, channel_clock, channel_client
):
    channel_client("alice", duration_minutes=1, keep_alive=True)
    channel_clock.advance(minutes=2)
    notify("alice", "hi")

    assert failure_of(assert_queued, channel_stub, "alice", "hi") == [
        (
            "'hi' is not pending for alice: it was dropped at +2 min 0 s: alice timed out at "
            "+1 min 3 s, idle for 2 s (its token had expired at +1 min 1 s)"
        ),
        SENT,
        (
            "  hint: Give it a token that lasts longer: channel_client('alice', "
            "duration_minutes=3, keep_alive=True), or connect it again: channel_client('alice')."
        ),
    ]


def test_a_token_that_lasts_longer_keeps_the_client_connected(
    channel_stub, channel_clock, channel_client
):
    channel_client("alice", duration_minutes=3, keep_alive=True)
    channel_clock.advance(minutes=2)
    notify("alice", "hi")
    assert_queued(channel_stub, "alice", "hi")


def test_a_client_that_is_not_connected_as_its_token_expired(
    channel_stub, channel_clock, channel_client
):
    channel_client("alice", duration_minutes=1, keep_alive=True)
    channel_clock.advance(minutes=10)
    assert failure_of(assert_connected, channel_stub, "alice") == [
        (
            "alice is not connected: it timed out at +1 min 3 s, idle for 2 s (its token had "
            "expired at +1 min 1 s)"
        ),
        (
            "  hint: Give it a token that lasts longer: channel_client('alice', "
            "duration_minutes=11, keep_alive=True), or connect it again: channel_client('alice')."
        ),
    ]
    channel_client("alice")
    assert_connected(channel_stub, "alice")


def test_a_client_with_a_token_that_lasts_longer_is_connected(
    channel_stub, channel_clock, channel_client
):
    channel_client("alice", duration_minutes=11, keep_alive=True)
    channel_clock.advance(minutes=10)
    assert_connected(channel_stub, "alice")


def test_a_client_that_connects_again_with_a_new_token_has_the_message(
    channel_stub, channel_clock, channel_client
):
    channel_client("alice", duration_minutes=1, keep_alive=True)
    channel_clock.advance(minutes=2)
    channel_client("alice")
    notify("alice", "hi")
    assert_queued(channel_stub, "alice", "hi")


def test_a_message_dropped_after_add_disconnect_event(channel_stub, channel_clock, channel_client):
    alice = channel_client("alice")
    channel_stub.add_disconnect_event("alice")
    channel_clock.advance(1.5)
    alice.poll()
    channel_clock.advance(1)
    notify("alice", "hi")

    assert failure_of(assert_queued, channel_stub, "alice", "hi") == [
        (
            "'hi' is not pending for alice: it was dropped at +2.5 s: alice was disconnected at "
            "+2.0 s, 2 s after add_disconnect_event"
        ),
        SENT,
        "  hint: add_disconnect_event ends a connection after 2 s: leave it out, or connect again.",
    ]


@pytest.mark.parametrize("is_left_out", [True, False])
def test_without_add_disconnect_event_or_connected_again_the_client_has_the_message(
    is_left_out, channel_stub, channel_clock, channel_client
):
    alice = channel_client("alice")
    if not is_left_out:
        channel_stub.add_disconnect_event("alice")
    channel_clock.advance(1.5)
    alice.poll()
    channel_clock.advance(1)
    if not is_left_out:
        channel_client("alice")
    notify("alice", "hi")
    assert_queued(channel_stub, "alice", "hi")


def test_a_message_sent_to_an_expired_token(channel_stub, channel_clock, channel_client):
    token = channel.create_channel("alice", duration_minutes=1)
    channel_clock.advance(minutes=2)
    channel_client("alice")
    notify(token, "hi")

    assert failure_of(assert_queued, channel_stub, "alice", "hi") == [
        (
            f"'hi' is not pending for alice: it was dropped at +2 min 0 s: it was sent to token "
            f"{token[:6]}...alice, which had expired at +1 min 1 s"
        ),
        SENT,
        "  nothing is pending; alice is connected, since +2 min 0 s",
        "  hint: Send to the client id 'alice', or to a token that is valid.",
    ]
    for address in ("alice", channel.create_channel("alice")):
        notify(address, "hi")
    assert_queued(channel_stub, "alice", "hi", "hi")


# What a client has to receive.


def test_a_client_that_has_read_all_and_a_message_to_a_client_id_like_its_own(
    channel_stub, channel_client
):
    alice = channel_client("alice")
    notify("alice", "welcome")
    alice.receive()
    notify("Alice", "hi")

    assert failure_of(alice.receive) == [
        (
            "alice has nothing to receive: 'hi' was sent at +0.0 s to 'Alice', which differs from "
            "'alice' in case"
        ),
        SENT,
        "  hint: Use 'Alice' in the test, or have the app send to 'alice'.",
    ]
    upper = channel_client("Alice")
    for client_id in ("Alice", "alice"):
        notify(client_id, "hi")
    assert upper.receive() == alice.receive() == "hi"


def test_a_client_that_has_read_all_and_a_message_to_an_expired_token(
    channel_stub, channel_clock, channel_client
):
    alice = channel_client("alice", keep_alive=True)
    token = channel.create_channel("alice", duration_minutes=1)
    notify("alice", "welcome")
    alice.receive()
    channel_clock.advance(minutes=2)
    notify(token, "hi")

    assert failure_of(alice.receive) == [
        (
            "alice has nothing to receive: 'hi' was dropped at +2 min 0 s: it was sent to token "
            f"{token[:6]}...alice, which had expired at +1 min 1 s"
        ),
        SENT,
        "  hint: Send to the client id 'alice', or to a token that is valid.",
    ]
    notify(channel.create_channel("alice"), "hi")
    assert alice.receive() == "hi"


def test_a_client_that_has_read_all_that_was_sent(channel_stub, channel_client):
    alice = channel_client("alice")
    notify("alice", "welcome")
    alice.receive()

    assert failure_of(alice.receive) == [
        (
            "alice has nothing to receive: nothing was sent to alice after 'welcome', which was "
            "read at +0.0 s"
        ),
        SILENCE_HINT,
    ]
    notify("alice", "hi")
    assert channel_stub.wait_for("send", "alice", message="hi", timeout=0).message == "hi"
    assert alice.receive() == "hi"


def test_a_client_that_read_all_and_missed_a_message_before(channel_stub, channel_client):
    notify("alice", "early")
    alice = channel_client("alice")
    notify("alice", "welcome")
    alice.receive()

    assert failure_of(alice.receive)[0] == (
        "alice has nothing to receive: nothing was sent to alice after 'welcome', which was read "
        "at +0.0 s; earlier, 'early' was dropped at +0.0 s: alice was not connected yet, and "
        "connected only afterwards"
    )


@pytest.mark.parametrize("by", ["another client", "HTTP", "poll", "pop"])
def test_a_message_that_somebody_else_has_read(by, channel_stub, channel_client):
    alice = channel_client("alice")
    notify("alice", "hi")
    if by == "another client":
        channel_client("alice").receive()
    elif by == "HTTP":
        channel_stub._poll(alice.token, "HTTP")
    elif by == "poll":
        channel_stub.connect_and_pop_first_message(alice.token)
    else:
        channel_stub.pop_first_message(alice.token)

    reader = {
        "another client": "another client of alice",
        "HTTP": "a page, over HTTP",
        "poll": "connect_and_pop_first_message",
        "pop": "pop_first_message",
    }[by]
    assert failure_of(alice.receive) == [
        f"alice has nothing to receive: 'hi' was sent at +0.0 s and read at +0.0 s by {reader}",
        SENT,
        "  read by test_a_message_that_somebody_else_has_read() at test_failures.py:N",
        (
            "  hint: assert_sent(channel_stub, 'alice', ...) also holds when a message was read or "
            "lost."
        ),
    ]
    assert_sent(channel_stub, "alice", "hi")


def test_a_client_whose_channel_another_one_has_closed(channel_stub, channel_client):
    alice = channel_client("alice")
    channel_client("alice").close()
    notify("alice", "hi")

    assert failure_of(alice.receive) == [
        (
            "alice has nothing to receive: 'hi' was dropped at +0.0 s: another client of alice "
            "closed the channel at +0.0 s"
        ),
        SENT,
        "  closed by test_a_client_whose_channel_another_one_has_closed() at test_failures.py:N",
        "  hint: Connect it again before the app sends: channel_client('alice').",
    ]
    alice = channel_client("alice")
    notify("alice", "hi")
    assert alice.receive() == "hi"


def test_a_client_that_is_not_connected_any_more(channel_clock, channel_client):
    alice = channel_client("alice")
    channel_clock.advance(3)
    assert failure_of(alice.receive)[:2] == [
        (
            "alice has nothing to receive: send_message was not called in this test, and no app "
            "is set that hears of a connection"
        ),
        "  alice is not connected: it timed out at +2.0 s, idle for 2 s",
    ]


# Nothing was sent.


def test_a_message_that_went_to_another_stub(channel_stub, channel_client):
    alice = channel_client("alice")
    with ChannelServiceStub(time_func=FakeClock().time) as other:
        notify("alice", "hi")
        built = "built by test_a_message_that_went_to_another_stub() at test_failures.py:N"
        hint = (
            "  hint: Calls reach the newest stub that is not closed: connect and assert on that "
            "stub, or close it before the app sends."
        )
        assert failure_of(assert_queued, channel_stub, "alice", "hi") == [
            f"'hi' is not pending for alice: it was dropped by another stub, which was {built}",
            SENT,
            IDLE,
            hint,
        ]
        assert failure_of(alice.receive) == [
            f"alice has nothing to receive: 'hi' was dropped by another stub, which was {built}",
            SENT,
            hint,
        ]
        assert_dropped(other, "alice", "hi")
        with ChannelClient(other, channel.create_channel("alice")):
            notify("alice", "hi")
            assert_queued(other, "alice", "hi")
    notify("alice", "hi")
    assert_queued(channel_stub, "alice", "hi")


def test_a_message_that_went_to_a_stub_that_is_closed_since(
    channel_stub, channel_client, make_channel_stub
):
    alice = channel_client("alice")
    with make_channel_stub():
        notify("alice", "hi")
    assert failure_of(alice.receive)[0].startswith(
        "alice has nothing to receive: 'hi' was dropped by another stub, which was built by test_a_"
    )
    with make_channel_stub() as third:  # what went to an older one is no reason
        assert "not called in this test" in failure_of(assert_dropped, third, "alice", "hi")[0]


def test_a_client_of_another_stub(channel_stub, channel_client):
    with ChannelServiceStub(time_func=FakeClock().time) as other:
        channel_client("alice")
        assert failure_of(assert_connected, other, "alice") == [
            (
                "alice is not connected: it connected to another stub, which is that of the "
                "fixture channel_stub"
            ),
            "  connected by test_a_client_of_another_stub() at test_failures.py:N",
            "  hint: Pass that stub, or make it the only one.",
        ]
        assert_connected(channel_stub, "alice")


def test_a_message_that_went_to_another_client_is_not_the_nearest_of_any(channel_stub):
    notify("bob", "hi")
    assert failure_of(assert_dropped, channel_stub, "alice") == [
        "no message to alice was dropped: 1 message was sent to bob, and none to alice",
        "  hint: Check to whom the app sends.",
    ]


def test_a_message_that_went_to_the_stub_of_the_fixture(channel_stub):
    with ChannelServiceStub(time_func=FakeClock().time) as newest:
        pass
    notify("alice", "hi")
    assert failure_of(assert_sent, newest, "alice", "hi")[0] == (
        "'hi' did not reach alice: it was dropped by another stub, which is that of the fixture "
        "channel_stub"
    )


@pytest.mark.parametrize(
    ("status", "body", "hint"),
    [
        (
            "500 Internal Server Error",
            b"KeyError: 'user'",
            "Fix the handler of /_ah/channel/connected/. Its answer began \"KeyError: 'user'\".",
        ),
        ("404 Not Found", b"", "Have the app handle POST /_ah/channel/connected/."),
    ],
)
@pytest.mark.filterwarnings("ignore::pytest_channelstub.ChannelAppWarning")
def test_an_app_that_does_not_handle_the_connection(
    status, body, hint, channel_stub, channel_client
):
    channel_stub.app = answer(status, body)
    alice = channel_client("alice")
    reason = (
        f"the app answered {status} when alice connected (+0.0 s), and what its handler was to "
        "send was not sent"
    )
    assert failure_of(alice.receive) == [
        f"alice has nothing to receive: {reason}",
        f"  hint: {hint}",
    ]
    assert failure_of(assert_queued, channel_stub, "alice", "welcome") == [
        f"'welcome' is not pending for alice: {reason}",
        IDLE,
        f"  hint: {hint}",
    ]


def test_an_app_that_raises_when_a_client_connects(channel_stub, channel_client):
    def app(environ, start_response):
        raise KeyError("user")

    channel_stub.app = app
    with pytest.raises(KeyError):
        channel_client("alice")
    assert failure_of(assert_sent, channel_stub, "alice", "welcome") == [
        (
            "'welcome' was not sent to alice: the app raised KeyError: 'user' when alice connected "
            "(+0.0 s), and what its handler was to send was not sent"
        ),
        "  hint: Fix the handler of /_ah/channel/connected/.",
    ]


def test_no_app_where_one_was_to_greet(channel_stub, channel_client):
    alice = channel_client("alice")
    assert failure_of(alice.receive) == [
        (
            "alice has nothing to receive: send_message was not called in this test, and no app "
            "is set that hears of a connection"
        ),
        (
            "  hint: Set channel_stub.app, or have channel_app return the app."
            f"{SILENCE_HINT.removeprefix('  hint:')}"
        ),
    ]


def test_presence_that_is_off_where_the_app_was_to_greet(channel_stub, channel_client):
    channel_stub.app, channel_stub._presence = greet, False
    alice = channel_client("alice")
    assert failure_of(alice.receive)[0] == (
        "alice has nothing to receive: send_message was not called in this test, and presence is "
        "off, so the app does not hear of a connection"
    )


def test_a_client_that_was_connected_before_this_test(channel_stub, channel_client):
    channel_stub.app = greet
    channel_client("alice", keep_alive=True)
    channel_stub._begin_epoch("queues")
    alice = channel_client("alice")
    assert failure_of(alice.receive) == [
        (
            "alice has nothing to receive: send_message was not called in this test, and alice "
            "was connected before this test, so the app did not hear of it again"
        ),
        (
            '  hint: @pytest.mark.channel_reset("all") begins with nobody connected.'
            f"{SILENCE_HINT.removeprefix('  hint:')}"
        ),
    ]
    channel_stub._begin_epoch("all")
    assert channel_client("alice").receive() == "welcome"


def test_an_app_that_handles_the_connection_greets(channel_stub, channel_client):
    channel_stub.app = greet
    assert channel_client("alice").receive() == "welcome"


def test_no_call_of_send_message_at_all(channel_stub, channel_client):
    channel_stub.app = answer("200 OK")
    channel_client("alice")
    silence = "send_message was not called in this test"
    assert failure_of(assert_queued, channel_stub, "alice", "hi") == [
        f"'hi' is not pending for alice: {silence}",
        IDLE,
        SILENCE_HINT,
    ]
    assert failure_of(assert_sent, channel_stub, "alice", "hi") == [
        f"'hi' was not sent to alice: {silence}",
        SILENCE_HINT,
    ]
    notify("alice", "hi")
    assert_queued(channel_stub, "alice", "hi")


def test_a_client_that_add_connect_event_alone_speaks_of(channel_stub, channel_client):
    channel_stub.add_connect_event("alice")
    notify("alice", "hi")
    assert failure_of(assert_queued, channel_stub, "alice", "hi")[0] == (
        "'hi' is not pending for alice: it was dropped at +0.0 s: alice did not connect in this "
        "test: add_connect_event tells the app alone"
    )
    assert failure_of(assert_connected, channel_stub, "alice")[0] == (
        "alice is not connected: it did not connect in this test: add_connect_event tells the app "
        "alone"
    )
    channel_client("alice")
    assert_connected(channel_stub, "alice")


def test_a_stub_of_the_tests_own_of_which_no_fixture_knows(make_channel_stub):
    with make_channel_stub() as stub:
        alice = ChannelClient(stub, channel.create_channel("alice"))
        assert failure_of(alice.receive)[1].startswith("  hint: Set stub.app. ")
        hint = "  hint: Let time pass: stub.clock.advance(2); or end it: stub.disconnect('alice')."
        assert failure_of(assert_disconnected, stub, "alice")[-1] == hint
        stub.clock.advance(2)
        assert_disconnected(stub, "alice")
        notify("bob", "hi")
        hint = "  hint: Connect it before the app sends: "
        hint += "ChannelClient(stub, channel.create_channel('bob'))."
        assert failure_of(assert_queued, stub, "bob", "hi")[-1] == hint
        ChannelClient(stub, channel.create_channel("bob"))
        notify("bob", "hi")
        assert_queued(stub, "bob", "hi")


class TestStubThatOverridesTheFixture:
    @pytest.fixture
    def channel_stub(self, make_channel_stub):
        with make_channel_stub() as stub:
            yield stub

    def test_the_fixtures_are_of_that_stub(self, channel_stub, channel_client):
        notify("alice", "hi")
        hint = "  hint: Connect it before the app sends: channel_client('alice')."
        assert failure_of(assert_queued, channel_stub, "alice", "hi")[-1] == hint
        channel_client("alice")
        notify("alice", "hi")
        assert_queued(channel_stub, "alice", "hi")


def test_a_refused_call_that_was_to_be_the_second(channel_stub, channel_client):
    channel_client("alice")
    notify("alice", '{"b": 1}')
    notify("alice", {"b": 1})
    headline = failure_of(assert_sent, channel_stub, "alice", {"b": 1}, count=2)[0]
    assert headline.startswith(
        "{'b': 1} was sent to alice once, and was expected twice: a call for alice was refused"
    )


def test_a_number_that_stands_in_the_text_of_a_refusal(channel_stub, channel_client):
    channel_client("alice")
    notify("alice", {"b": 1})
    notify("alice", "8")
    assert failure_of(assert_sent, channel_stub, "alice", 7)[0] == (
        "7 was not sent to alice: the message sent is 8, not 7"
    )


def test_a_client_that_add_disconnect_event_ends(channel_stub, channel_clock, channel_client):
    alice = channel_client("alice")
    channel_stub.add_disconnect_event("alice")
    channel_clock.advance(1)
    alice.poll()
    assert failure_of(assert_disconnected, channel_stub, "alice")[0] == (
        "alice is connected, since +0.0 s: it is disconnected at +2.0 s, 2 s after "
        "add_disconnect_event"
    )
    channel_clock.advance(1)
    assert_disconnected(channel_stub, "alice")


def test_a_message_that_is_pending_more_often_than_never(channel_stub, channel_client):
    alice = channel_client("alice")
    notify("alice", "x")
    notify("alice", "x")
    hint = "  hint: Expect it twice, or read it before."
    assert failure_of(assert_queued, channel_stub, "alice")[-1] == hint
    assert_queued(channel_stub, "alice", "x", "x")
    alice.receive_all()
    assert_queued(channel_stub, "alice")


@pytest.mark.parametrize("kind", ["close", "disconnect"])
def test_a_message_that_went_with_its_channel(kind, channel_stub, channel_client):
    channel_client("alice")
    notify("alice", "x")
    channel_stub.disconnect("alice", kind)
    assert failure_of(assert_queued, channel_stub, "alice", "x")[-1] == (
        "  hint: assert_sent(channel_stub, 'alice', ...) also holds when a message was read or "
        "lost."
    )
    assert_sent(channel_stub, "alice", "x")


def test_a_client_that_left_where_nothing_was_sent(channel_stub, channel_client):
    channel_client("alice").close()
    hint = "  hint: Connect it again: channel_client('alice')."
    assert failure_of(assert_connected, channel_stub, "alice")[-1] == hint
    channel_client("alice")
    assert_connected(channel_stub, "alice")


def test_a_wait_for_a_second_read_gives_no_advice_on_assertions(channel_stub, channel_client):
    alice = channel_client("alice")
    notify("alice", "x")
    alice.receive()
    text = failure_of(channel_stub.wait_for, "read", "alice", 0, count=2)
    assert text[0] == (
        "only 1 of 2 'read' events of alice within 0 s of real time: 'x' was sent at +0.0 s and "
        "read at +0.0 s by a ChannelClient"
    )
    assert not any("hint" in line for line in text)


def test_a_handler_that_asserts_on_what_it_is_to_send(channel_stub, channel_client):
    hints = []

    def app(environ, start_response):
        hints.append(failure_of(assert_queued, channel_stub, "alice", "welcome")[-1])
        return greet(environ, start_response)

    channel_stub.app = app
    channel_client("alice")
    assert hints == ["  hint: This is the handler itself: assert, or wait, after its return."]
    assert_sent(channel_stub, "alice", ANY)


def test_messages_that_went_to_others_alone(channel_stub):
    notify("bob", "hi")
    assert failure_of(assert_sent, channel_stub, "alice", "quite another thing") == [
        "'quite another thing' was not sent to alice: 1 message was sent to bob, and none to alice",
        "  hint: Check to whom the app sends.",
    ]
    notify("carol", "hi")
    assert (
        "2 messages were sent to 2 other clients, and none to alice"
        in (failure_of(assert_sent, channel_stub, "alice", "quite another thing")[0])
    )


# Calls that failed.


@pytest.mark.parametrize(
    ("assertion", "headline"),
    [
        (assert_sent, "'alice' was not sent to hello: 'hello' was sent to alice at +0.0 s"),
        (assert_queued, "'alice' is not pending for hello: 'hello' was sent to alice at +0.0 s"),
    ],
)
def test_a_client_id_and_a_message_that_are_swapped_in_the_test(
    assertion, headline, channel_stub, channel_client
):
    channel_client("alice")
    notify("alice", "hello")
    assert failure_of(assertion, channel_stub, "hello", "alice")[:3] == [
        headline,
        "  sent by notify() at test_failures.py:N",
        "  hint: The client id comes before the message: swap the two in the test.",
    ]
    assertion(channel_stub, "alice", "hello")


def test_a_client_id_and_a_message_that_are_swapped_in_the_app(channel_stub, channel_client):
    channel_client("alice")
    notify("hello", "alice")
    headline, _, hint = failure_of(assert_sent, channel_stub, "alice", "hello")[:3]
    assert headline == "'hello' was not sent to alice: 'alice' was sent to hello at +0.0 s"
    assert hint.endswith(" message: swap the two in send_message(client_id, message).")


def test_a_client_id_and_a_message_that_are_swapped_somewhere(channel_stub):
    notify("hello", "alice")
    hint = failure_of(assert_sent, channel_stub, "alice", "hello")[2]
    assert hint.endswith(" swap the two in the test or in send_message(client_id, message).")


def test_a_refused_call_whose_error_was_caught(channel_stub, channel_client):
    alice = channel_client("alice")
    notify("alice", {"move": "e4"})
    reason = (
        "a call for alice was refused at +0.0 s: InvalidMessageError: the message is "
        "{'move': 'e4'}, of type dict: pass a str, or its UTF-8 bytes, of at most 32767 bytes, "
        "such as json.dumps(...)"
    )
    more = [
        "  called by notify() at test_failures.py:N",
        "  hint: The error was caught, and the test went on. Fix the call.",
    ]
    assert failure_of(alice.receive) == [f"alice has nothing to receive: {reason}", *more]
    assert failure_of(assert_sent, channel_stub, "alice", {"move": "e4"}) == [
        f"{{'move': 'e4'}} was not sent to alice: {reason}",
        *more,
    ]
    notify("alice", json.dumps({"move": "e4"}))
    assert_queued(channel_stub, "alice", {"move": "e4"})


def test_a_refused_call_without_a_client_id(channel_stub):
    notify(None, "hi")
    assert failure_of(assert_sent, channel_stub, "alice", "hi")[0] == (
        "'hi' was not sent to alice: a call was refused at +0.0 s: InvalidChannelClientIdError: "
        "the client id is None, of type NoneType: pass a str, or its UTF-8 bytes, of at most 256 "
        "bytes"
    )
    notify("alice", "hi")
    assert_dropped(channel_stub, "alice", "hi")


@pytest.mark.parametrize(
    ("call", "origin", "hint"),
    [
        (None, "SetError", "channel_stub.SetError(None) removes it."),
        (
            "SendChannelMessage",
            "SetError for SendChannelMessage",
            "channel_stub.SetError(apiproxy_errors.Error(), 'SendChannelMessage', 0) removes it.",
        ),
    ],
)
def test_an_error_that_was_set(call, origin, hint, channel_stub, channel_client):
    channel_client("alice")
    channel_stub.SetError(apiproxy_errors.OverQuotaError("enough"), call)
    notify("alice", "hi")
    assert failure_of(assert_queued, channel_stub, "alice", "hi") == [
        (
            "'hi' is not pending for alice: it was not sent: the call raised OverQuotaError at "
            f"+0.0 s, set by {origin}"
        ),
        "  called by notify() at test_failures.py:N",
        IDLE,
        f"  hint: {hint}",
    ]
    if call is None:
        channel_stub.SetError(None)
    else:
        channel_stub.SetError(apiproxy_errors.Error(), "SendChannelMessage", 0)
    notify("alice", "hi")
    assert_queued(channel_stub, "alice", "hi")


def test_an_error_that_was_set_for_a_channel_that_was_to_be_created(channel_stub, channel_client):
    alice = channel_client("alice")
    channel_stub.SetError(apiproxy_errors.OverQuotaError("enough"), "CreateChannel")
    with pytest.raises(apiproxy_errors.OverQuotaError):
        channel.create_channel("alice")
    assert failure_of(alice.receive)[::2] == [
        (
            "alice has nothing to receive: create_channel raised OverQuotaError at +0.0 s, set by "
            "SetError for CreateChannel"
        ),
        ("  hint: channel_stub.SetError(apiproxy_errors.Error(), 'CreateChannel', 0) removes it."),
    ]
    channel_stub.SetError(apiproxy_errors.Error(), "CreateChannel", 0)
    assert channel.create_channel("alice")


# Client ids that read alike.


def test_a_page_that_is_connected_under_a_client_id_like_that_of_the_message(
    channel_stub, channel_client
):
    channel_client("Alice")
    notify("alice", "hi")
    assert failure_of(assert_queued, channel_stub, "alice", "hi") == [
        (
            "'hi' is not pending for alice: it was dropped at +0.0 s: alice did not connect in "
            "this test, but 'Alice' did, which differs in case"
        ),
        SENT,
        "  hint: Connect 'alice', or have the app send to 'Alice'.",
    ]
    assert failure_of(assert_connected, channel_stub, "alice") == [
        (
            "alice is not connected: it did not connect in this test, but 'Alice' did, which "
            "differs in case"
        ),
        "  connected: Alice",
        "  hint: Use 'Alice' in the test, or connect 'alice'.",
    ]
    notify("Alice", "hi")
    assert_queued(channel_stub, "Alice", "hi")
    channel_client("alice")
    assert_connected(channel_stub, "alice")


@pytest.mark.parametrize(
    ("wanted", "used", "shown", "difference"),
    [
        ("alice", "alice ", "'alice ', which differs from 'alice'", "white space at the end"),
        ("alice", "al ice", "'al ice', which differs from 'alice'", "white space"),
        ("alice", " ALICE", "' ALICE', which differs from 'alice'", "case and white space"),
        (
            "jos\u00e9",
            DECOMPOSED,
            r"'jose\u0301', which differs from 'jos\xe9'",
            "Unicode form",
        ),
        (
            "alice",
            CYRILLIC,
            r"'\u0430lice', which differs from 'alice'",
            "characters that look alike",
        ),
    ],
)
def test_a_message_to_a_client_id_that_reads_alike(  # noqa: PLR0913, PLR0917 (a table's row, and fixtures)
    wanted, used, shown, difference, channel_stub, channel_client
):
    for client_id, other in ((wanted, used), (used, wanted)):
        channel_client(client_id)
        channel_client("bob")
        notify(other, "hi")
        notify("bob", "hi")
        first, hint = (failure_of(assert_queued, channel_stub, client_id, "hi")[i] for i in (0, -1))
        assert f" in {difference}" in first
        if client_id == wanted:
            assert f"it was sent at +0.0 s to {shown} in {difference}" in first
            assert hint.startswith(f"  hint: Use {shown.partition(',')[0]} in the test, or have")
        channel_stub.reset("all")


# The queue holds something else.


def test_the_same_message_twice(channel_stub, channel_clock, channel_client):
    channel_client("alice")
    notify("alice", "hi")
    channel_clock.advance(1)
    notify("alice", "hi")

    assert failure_of(assert_queued, channel_stub, "alice", "hi") == [
        "'hi' is pending for alice twice, and was expected once: sent at +0.0 s and at +1.0 s",
        "  sent at +0.0 s by notify() at test_failures.py:N",
        "  sent at +1.0 s by notify() at test_failures.py:N",
        "  hint: Expect it twice, or have the app send it once.",
    ]
    assert_queued(channel_stub, "alice", "hi", "hi")


def test_a_message_more_than_expected(channel_stub, channel_clock, channel_client):
    alice = channel_client("alice")
    notify("alice", "welcome")
    notify("alice", "hi")

    assert failure_of(assert_queued, channel_stub, "alice", "hi") == [
        "'welcome' is pending for alice, and was not expected: sent at +0.0 s",
        SENT,
        "  expected:",
        "    1. 'hi'",
        "  pending:",
        "    1. 'welcome'   <- not expected",
        "    2. 'hi'",
        (
            "  hint: Expect it too, or read it before; assert_sent(channel_stub, 'alice', ...) "
            "checks one message and ignores the others."
        ),
    ]
    assert_queued(channel_stub, "alice", "welcome", "hi")
    assert_sent(channel_stub, "alice", "hi")
    alice.receive()
    assert_queued(channel_stub, "alice", "hi")


@pytest.mark.parametrize(
    ("expected", "message", "difference", "more"),
    [
        (
            '{"a": 30, "b": 1}',
            '{"b":1,"a":30.0}',
            "is the same JSON, written differently",
            [
                """  '{"b":1,"a":30.0}' was sent at +0.0 s and is pending""",
                SENT,
                "  hint: Pass the dict itself: a dict is compared as JSON.",
            ],
        ),
        (
            {"a": 1},
            json.dumps(json.dumps({"a": 1})),
            "is the same JSON, dumped twice",
            [
                r"""  '"{\\"a\\": 1}"' was sent at +0.0 s and is pending""",
                SENT,
                "  hint: Call json.dumps once.",
            ],
        ),
        (
            {"a": 1},
            "{'a': 1}",
            "is its str(), not JSON",
            [
                """  "{'a': 1}" was sent at +0.0 s and is pending""",
                SENT,
                "  hint: Have the app send json.dumps(...) of it.",
            ],
        ),
        (
            [1, 2, 3],
            "[3, 1, 2]",
            "has the same items in another order",
            ["  '[3, 1, 2]' was sent at +0.0 s and is pending", SENT],
        ),
        (
            "jos\u00e9",
            DECOMPOSED,
            "differs in Unicode form alone",
            [
                r"  expected  'jos\xe9'",
                r"  found     'jose\u0301'",
                "  it was sent at +0.0 s and is pending",
                SENT,
            ],
        ),
        (
            "hi",
            "hi\n",
            "differs in white space at the end alone",
            [
                "  expected  'hi'",
                r"  found     'hi\n'",
                "               ^^",
                "  it was sent at +0.0 s and is pending",
                SENT,
            ],
        ),
        (
            "move e4",
            "move e5",
            "differs from character 7 on",
            [
                "  expected  'move e4'",
                "  found     'move e5'",
                "                   ^",
                "  it was sent at +0.0 s and is pending",
                SENT,
            ],
        ),
        (
            {"text": "ho"},
            '{"text": "hi"}',
            "has text = 'hi', not 'ho'",
            ["""  '{"text": "hi"}' was sent at +0.0 s and is pending""", SENT],
        ),
        (
            {"a": 1, "b": 2},
            '{"a": 2, "b": 3}',
            "differs in 2 fields",
            [
                "  a  expected 1, found 2",
                "  b  expected 2, found 3",
                """  '{"a": 2, "b": 3}' was sent at +0.0 s and is pending""",
                SENT,
            ],
        ),
        (
            re.compile("^ho"),
            "hi",
            "does not match",
            ["  'hi' was sent at +0.0 s and is pending", SENT],
        ),
    ],
    ids=lambda value: value if isinstance(value, str) and " " in value else "",
)
def test_another_message_than_expected(  # noqa: PLR0913, PLR0917 (a table's row, and fixtures)
    expected, message, difference, more, channel_stub, channel_client
):
    channel_client("alice")
    notify("alice", message)
    shown = (
        f"a match of {expected.pattern!r}" if isinstance(expected, re.Pattern) else repr(expected)
    )
    assert failure_of(assert_queued, channel_stub, "alice", expected) == [
        f"{shown} is not pending for alice: the message sent {difference}",
        *more,
    ]


def test_what_to_pass_for_another_message_than_expected(channel_stub, channel_client):
    channel_client("alice")
    notify("alice", '{"b":1,"a":30.0}')
    notify("alice", json.dumps({"a": 1}))
    assert_queued(channel_stub, "alice", {"a": 30, "b": 1}, {"a": 1})


def test_bytes_where_text_is_expected(channel_stub, channel_client):
    channel_client("alice")
    notify("alice", "hi")
    assert failure_of(assert_queued, channel_stub, "alice", b"hi") == [
        "b'hi' is not pending for alice: messages are text, and this is bytes",
        "  hint: Pass 'hi'.",
    ]
    assert failure_of(assert_sent, channel_stub, "alice", b"hi")[1] == "  hint: Pass 'hi'."
    assert_queued(channel_stub, "alice", "hi")


def test_a_message_and_its_nearest_miss_are_one_story(channel_stub, channel_client):
    channel_client("alice")
    notify("alice", '{"move": "e5"}')
    notify("alice", "bye")
    assert failure_of(assert_queued, channel_stub, "alice", {"move": "e4"}, "bye") == [
        "{'move': 'e4'} is not pending for alice: the nearest message has move = 'e5', not 'e4'",
        """  '{"move": "e5"}' was sent at +0.0 s and is pending""",
        SENT,
        "  expected:",
        "    1. {'move': 'e4'}   <- not pending",
        "    2. 'bye'",
        "  pending:",
        """    1. '{"move": "e5"}'   <- not expected""",
        "    2. 'bye'",
    ]
    notify("bob", '{"move": "e4"}')
    assert failure_of(assert_queued, channel_stub, "alice", {"move": "e4"}, "bye")[:2] == [
        "{'move': 'e4'} is not pending for alice: it was sent at +0.0 s to bob, not to alice",
        SENT,
    ]


# Tokens.


def test_a_client_id_where_a_token_is_expected(channel_stub):
    for assertion in (assert_token_valid, assert_token_expired):
        assert failure_of(assertion, channel_stub, "alice") == [
            "'alice' is not a token: it is a client id",
            "  hint: Pass what create_channel returned for it.",
        ]
    assert_token_valid(channel_stub, channel.create_channel("alice"))


def test_a_token_of_an_earlier_test_that_also_expired(channel_stub, channel_clock):
    with ChannelServiceStub(time_func=FakeClock().time):
        token = channel.create_channel("alice", duration_minutes=1)
    channel_clock.advance(minutes=5)
    assert failure_of(assert_token_valid, channel_stub, token) == [
        f"token {token[:6]}...alice is not valid: it expired at +1 min 1 s, 3 min 59 s ago",
        (
            f"  token {token[:6]}...alice was not made by this stub in this test: it belongs to "
            "another stub or an earlier test"
        ),
        "  hint: Make another: channel.create_channel('alice').",
    ]
    assert_token_valid(channel_stub, channel.create_channel("alice"))


def test_a_token_of_an_earlier_test_that_connected_and_timed_out(channel_stub, channel_clock):
    with ChannelServiceStub(time_func=FakeClock().time):
        token = channel.create_channel("alice")
    channel_stub.connect_channel(token)
    channel_clock.advance(3)
    notify("alice", "hi")
    foreign = (
        f"  token {token[:6]}...alice was not made by this stub in this test: it belongs to "
        "another stub or an earlier test"
    )
    keep = (
        "  hint: Keep it connected: channel_client('alice', keep_alive=True), or call its "
        "poll() more often than every 2 s."
    )
    assert failure_of(assert_connected, channel_stub, token) == [
        "alice is not connected: it timed out at +2.0 s, idle for 2 s",
        foreign,
        keep,
    ]
    assert failure_of(assert_queued, channel_stub, token, "hi") == [
        (
            "'hi' is not pending for alice: it was dropped at +3.0 s: alice timed out at +2.0 s, "
            "idle for 2 s"
        ),
        SENT,
        foreign,
        keep,
    ]


def test_a_token_of_another_stub_of_which_nothing_else_is_known(channel_stub):
    with ChannelServiceStub(time_func=FakeClock().time):
        token = channel.create_channel("alice")
    assert failure_of(assert_sent, channel_stub, token, "hi") == [
        (
            f"'hi' was not sent to alice: token {token[:6]}...alice was not made by this stub in "
            "this test: it belongs to another stub or an earlier test"
        ),
        "  hint: Use a token that create_channel has returned in this test.",
    ]
    token = channel.create_channel("alice")
    ChannelClient(channel_stub, token)
    notify(token, "hi")
    assert_sent(channel_stub, token, "hi")


def test_a_token_that_is_valid_or_expired_against_expectation(channel_stub, channel_clock):
    token = channel.create_channel("alice", duration_minutes=1)
    name = f"token {token[:6]}...alice"
    assert failure_of(assert_token_expired, channel_stub, token) == [
        f"{name} is not expired: it is valid until +1 min 1 s, for 1 min 1 s more",
        "  hint: Let time pass: channel_clock.advance(61).",
    ]
    assert failure_of(assert_token_valid, channel_stub, token, "bob") == [
        "the token is not one of bob: its client id is 'alice'"
    ]
    channel_clock.advance(61)
    assert_token_expired(channel_stub, token)


# Connections.


def test_a_client_that_is_connected_against_expectation(
    channel_stub, channel_clock, channel_client
):
    channel_client("alice")
    test = "test_a_client_that_is_connected_against_expectation"
    assert failure_of(assert_disconnected, channel_stub, "alice") == [
        "alice is connected, since +0.0 s: it times out at +2.0 s if it does not poll before",
        f"  connected by {test}() at test_failures.py:N",
        (
            "  hint: Let time pass: channel_clock.advance(2); or end it: "
            "channel_stub.disconnect('alice')."
        ),
    ]
    channel_clock.advance(2)
    assert_disconnected(channel_stub, "alice")


def test_a_kept_alive_client_that_is_connected_against_expectation(channel_stub, channel_client):
    alice = channel_client("alice", keep_alive=True)
    assert failure_of(assert_disconnected, channel_stub, "alice")[::2] == [
        (
            "alice is connected, since +0.0 s: it is kept alive, until its token expires at the "
            "latest, and then times out (+2 h 0 min 3 s)"
        ),
        "  hint: End it with the client's close(), or with channel_stub.disconnect('alice').",
    ]
    alice.close()
    assert_disconnected(channel_stub, "alice")
    channel_client("alice", keep_alive=True)
    channel_stub.disconnect("alice")
    assert_disconnected(channel_stub, "alice")


def test_a_client_that_has_a_token_and_did_not_connect(channel_stub, channel_client):
    channel.create_channel("alice")
    assert failure_of(assert_connected, channel_stub, "alice") == [
        "alice is not connected: it did not connect in this test",
        (
            "  hint: create_channel makes a token, and does not connect: channel_client('alice') "
            "does both."
        ),
    ]
    channel_client("alice")
    assert_connected(channel_stub, "alice")


def test_a_client_whose_connection_was_rejected(channel_stub, channel_clock, channel_client):
    token = channel.create_channel("alice", duration_minutes=1)
    channel_clock.advance(minutes=2)
    with pytest.raises(Exception, match="expired"):
        channel_stub.connect_channel(token)
    test = "test_a_client_whose_connection_was_rejected"
    assert failure_of(assert_connected, channel_stub, "alice") == [
        (
            f"alice is not connected: its connection was rejected at +2 min 0 s: token {token[:6]}"
            "...alice, which had expired at +1 min 1 s"
        ),
        f"  called by {test}() at test_failures.py:N",
        "  hint: Connect it with a new token: channel_client('alice').",
    ]
    channel_client("alice")
    assert_connected(channel_stub, "alice")


# Assertions that hold, or not, for anybody.


@pytest.mark.parametrize("assertion", [assert_not_sent, assert_queued, assert_disconnected])
@pytest.mark.parametrize("misspelt", ["alcie", "Alice", "allice", "alice "])
def test_a_misspelt_client_id_brings_a_warning_with_the_one_that_is_known(
    assertion, misspelt, channel_stub, channel_client
):
    channel_client("alice")
    with pytest.warns(UserWarning, match="nothing is known") as caught:
        assertion(channel_stub, misspelt)
    [warning] = caught
    assert str(warning.message) == (
        f"nothing is known of client id {misspelt!r} in this test, so that this holds: is 'alice' "
        "meant?"
    )
    assert warning.filename == __file__


@pytest.mark.parametrize("other", ["bob", "alice2", "alicia", "player-21", "alic"])
def test_another_client_id_brings_no_warning(other, channel_stub, channel_client):
    for client_id in ("alice", "alice1", "player-12"):
        channel_client(client_id)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert_not_sent(channel_stub, other)
        assert_queued(channel_stub, other)
        assert_disconnected(channel_stub, other)
        assert_not_sent(channel_stub, "alice")


def test_assertions_on_anybody(channel_stub, channel_client):
    assert_not_sent(channel_stub)
    channel_client("alice")
    notify("alice", "hi")
    notify("bob", "ho")
    assert_sent(channel_stub, ANY, "hi", count=1)
    assert_dropped(channel_stub, ANY)
    assert_not_sent(channel_stub, ANY, "hu")

    assert failure_of(assert_not_sent, channel_stub) == [
        "nothing was to be sent, and 2 messages were",
        "  'hi' to alice was sent at +0.0 s and is pending; sent by notify() at test_failures.py:N",
        (
            "  'ho' to bob was dropped at +0.0 s: bob did not connect in this test; sent by "
            "notify() at test_failures.py:N"
        ),
    ]
    assert failure_of(assert_not_sent, channel_stub, ANY, "hi") == [
        "nothing like 'hi' was to be sent, and 'hi' to alice was sent at +0.0 s and is pending",
        SENT,
    ]
    assert failure_of(assert_dropped, channel_stub, ANY, "hi") == [
        "'hi' was not dropped: alice was connected, and it was sent at +0.0 s and is pending",
        SENT,
    ]
    assert failure_of(assert_sent, channel_stub, ANY, "hu")[0] == (
        "'hu' was not sent to anybody: the nearest message is 'ho'"
    )


# What is called on the wrong object, or without a stub.


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (
            lambda stub, _: stub.send_message("alice", "hi"),
            (
                "'ChannelServiceStub' object has no attribute 'send_message': use "
                "channel.send_message(client_id, message)"
            ),
        ),
        (
            lambda _, channel_client: channel_client.receive(),
            (
                "the fixture channel_client is a function, and has no 'receive': call it first, as "
                "in channel_client('alice').receive"
            ),
        ),
        (
            lambda _, channel_client: channel_client("alice").send("hi"),
            (
                "'ChannelClient' object has no attribute 'send': use "
                "channel.send_message(client_id, message): a client only receives"
            ),
        ),
        (
            lambda stub, _: stub.is_conected("alice"),
            "'ChannelServiceStub' object has no attribute 'is_conected'",
        ),
    ],
    ids=["stub", "fixture", "client", "misspelt"],
)
def test_a_method_that_is_not_there(call, text, channel_stub, channel_client):
    with pytest.raises(AttributeError) as caught:
        call(channel_stub, channel_client)
    assert str(caught.value) == text


def test_what_to_call_in_place_of_a_method_that_is_not_there(channel_stub, channel_client):
    alice = channel_client("alice")
    channel.send_message("alice", "hi")
    assert alice.receive() == "hi"
    assert channel_stub.is_connected("alice")


def test_no_stub_is_active_in_a_test():
    assert failure_of(channel.send_message, "alice", "hi") == [
        (
            'No api proxy found for service "channel": no stub is active. Request the channel_stub '
            "fixture in this test (in a unittest class: "
            '@pytest.mark.usefixtures("channel_stub")), or build a stub with make_channel_stub(); '
            "with a testbed: testbed.init_channel_stub()"
        )
    ]


def test_no_stub_is_active_as_the_test_has_closed_its_own(channel_stub):
    channel_stub.close()
    assert failure_of(channel.send_message, "alice", "hi") == [
        (
            'No api proxy found for service "channel": no stub is active, as channel_stub is '
            "closed. Close it later, or build another with make_channel_stub(); with a testbed: "
            "testbed.init_channel_stub()"
        )
    ]


def test_no_stub_is_active_outside_pytest(monkeypatch):
    monkeypatch.delenv("PYTEST_CURRENT_TEST")
    assert failure_of(channel.send_message, "alice", "hi") == [
        (
            'No api proxy found for service "channel": no stub is active. Build one: stub = '
            "ChannelServiceStub(time_func=FakeClock().time); with a testbed: "
            "testbed.init_channel_stub()"
        )
    ]
    with ChannelServiceStub(time_func=FakeClock().time) as stub:
        channel.send_message("alice", "hi")
        assert_dropped(stub, "alice", "hi")


async def asgi_app(scope, receive, send):
    """As Starlette and its like are."""


def create_app():
    """A factory, as Flask's documentation has them."""
    return answer("200 OK")


@pytest.mark.parametrize(
    ("app", "text"),
    [
        (
            asgi_app,
            "an ASGI callable: pass a WSGI callable, such as a2wsgi.ASGIMiddleware(app)",
        ),
        (
            create_app,
            (
                "which takes no (environ, start_response): it looks like an app factory; pass what "
                "it returns, create_app()"
            ),
        ),
    ],
)
def test_an_app_that_is_not_a_WSGI_callable(app, text, channel_stub):  # noqa: N802 (a name)
    with pytest.raises(TypeError) as caught:
        channel_stub.app = app
    assert str(caught.value).startswith("the app is <function ")
    assert str(caught.value).endswith(f", {text}")


def test_what_an_app_factory_returns_is_an_app(channel_stub, channel_client):
    channel_stub.app = create_app()
    channel_client("alice")
    assert channel_stub.requests[0].status == 200


# What a stranger found, who had not seen the code.


def test_a_closed_stub_has_nobody_connected_and_nothing_pending(channel_client, channel_stub):
    alice = channel_client("alice")
    channel.send_message("alice", "x")
    channel_stub.close()
    with pytest.raises(AssertionError) as failure:
        alice.receive()
    closed = ["  hint: Read and assert before the stub is closed."]
    assert str(failure.value).split("\n") == [
        "alice has nothing to receive: the stub is closed",
        *closed,
    ]
    assert failure_of(assert_connected, channel_stub, "alice") == [
        "alice is not connected: the stub is closed",
        *closed,
    ]
    assert failure_of(assert_queued, channel_stub, "alice", "x") == [
        "'x' is not pending for alice: the stub is closed",
        *closed,
    ]
    with pytest.raises(AssertionError, match=r"no 'close' event of alice .*: the stub is closed"):
        channel_stub.wait_for("close", "alice", timeout=0)


@pytest.mark.parametrize("text", [b"x", bytearray(b"x")])
def test_that_bytes_were_not_sent_holds_of_every_message_and_is_refused(
    channel_client, channel_stub, text
):
    channel_client("alice")
    channel.send_message("alice", "x")
    expected = [
        f"{text!r} is never sent: messages are text, and this is bytes",
        "  hint: Pass 'x'.",
    ]
    assert failure_of(assert_not_sent, channel_stub, "alice", text) == expected
    with pytest.raises(AssertionError) as failure:
        assert_sent(channel_stub, "alice", text, count=0)
    assert str(failure.value).split("\n") == expected


def test_an_app_that_failed_after_its_greeting_is_no_reason(channel_client, channel_stub):
    def app(environ, start_response):
        channel.send_message("alice", "welcome")
        start_response("500 Oh", [])
        return []

    channel_stub.app = app
    with pytest.warns(ChannelAppWarning):
        alice = channel_client("alice")
    assert alice.receive() == "welcome"
    with pytest.raises(AssertionError, match=r"nothing was sent to alice after 'welcome', which"):
        alice.receive()


def test_a_wait_says_how_a_connection_ends(channel_client, channel_stub):
    alice = channel_client("alice", keep_alive=True)
    with pytest.raises(AssertionError) as failure:
        channel_stub.wait_for("timeout", "alice", timeout=0)
    assert str(failure.value).split("\n") == [
        (
            "no 'timeout' event of alice within 0 s of real time: alice is connected, since +0.0 s:"
            " it is kept alive, until its token expires at the latest, and then times out "
            "(+2 h 0 min 3 s)"
        ),
        "  hint: The stub's clock moves only when the test moves it: channel_clock.advance(7203).",
    ]
    with pytest.raises(AssertionError, match=r"hint: End it: channel_stub.disconnect\('alice'\)\."):
        channel_stub.wait_for("close", "alice", timeout=0)
    advice = r"hint: End it: channel_stub.disconnect\('alice', 'disconnect'\)\."
    with pytest.raises(AssertionError, match=advice):
        channel_stub.wait_for("disconnect", "alice", timeout=0)
    alice.close()
    with pytest.raises(AssertionError, match=r"it closed its channel|hint: Wait for 'close'\."):
        channel_stub.wait_for("disconnect", "alice", timeout=0)
    with pytest.raises(AssertionError) as failure:
        channel_stub.wait_for("close", "alice", timeout=0, count=2)
    assert str(failure.value).startswith("only 1 of 2 'close' events of alice")


def test_a_wait_for_a_second_message_does_not_say_that_the_first_is_unlike(
    channel_client, channel_stub
):
    channel_client("alice")
    channel.send_message("alice", "x")
    with pytest.raises(AssertionError) as failure:
        channel_stub.wait_for("send", "alice", timeout=0, count=2)
    assert str(failure.value) == "only 1 of 2 'send' events of alice within 0 s of real time"


@pytest.mark.channel_error(apiproxy_errors.OverQuotaError(), call="CreateChannel")
def test_a_channel_that_could_not_be_created_is_why_nobody_is_connected(channel_stub):
    with contextlib.suppress(apiproxy_errors.Error):
        channel.create_channel("alice")
    first, *_, hint = failure_of(assert_connected, channel_stub, "alice")
    assert first.startswith(
        "alice is not connected: create_channel raised OverQuotaError at +0.0 s"
    )
    assert hint == "  hint: Remove that marker, or have the app handle the error."


def test_a_rejection_that_was_caught_is_why_nobody_is_connected(channel_stub, channel_clock):
    with contextlib.suppress(InvalidTokenError):
        channel_stub.connect_channel("alice")
    assert failure_of(assert_connected, channel_stub, "alice")[0] == (
        "alice is not connected: its connection was rejected at +0.0 s: alice is a client id, and "
        "not a token"
    )
    token = channel.create_channel("bob", duration_minutes=1)
    channel_clock.advance(minutes=2)
    with contextlib.suppress(TokenTimedOutError):
        channel_stub.connect_channel(token)
    channel.send_message("bob", "x")
    assert failure_of(assert_queued, channel_stub, "bob", "x")[0] == (
        "'x' is not pending for bob: it was dropped at +2 min 0 s: bob did not connect in this "
        "test: its token was rejected at +2 min 0 s"
    )


def test_another_client_that_closed_the_channel_is_named(channel_client, channel_stub):
    alice, other = channel_client("alice"), channel_client("alice")
    channel.send_message("alice", "x")
    other.close()
    with pytest.raises(AssertionError) as failure:
        alice.receive()
    assert "lost at +0.0 s, when another client of alice closed the channel" in str(failure.value)


@pytest.mark.parametrize(
    ("left", "right"), [("user-1", "user\u20111"), ("it's", "it\u2019s"), ("a-b", "a\u2013b")]
)
def test_dashes_and_quotes_look_alike(channel_client, channel_stub, left, right):
    channel_client("alice")
    channel.send_message("alice", right)
    first, *_ = failure_of(assert_queued, channel_stub, "alice", left)
    assert "differs in characters that look alike alone" in first


def test_the_client_id_of_a_token_may_be_given_by_a_token(channel_stub):
    token, other = channel.create_channel("alice"), channel.create_channel("alice")
    assert_token_valid(channel_stub, token, other)


@pytest.mark.parametrize(
    ("value", "why"),
    [
        ("", "it is empty"),
        (b"\xff\xfe", "it is bytes that are not UTF-8"),
        ("a-b", "create_channel has not returned it, or it was changed"),
    ],
)
def test_what_is_no_token_is_not_called_a_client_id(channel_stub, value, why):
    assert failure_of(assert_token_valid, channel_stub, value)[0].endswith(f"is not a token: {why}")


def test_bytes_that_are_not_utf8_are_called_so(channel_stub):
    with pytest.raises(TypeError, match="these bytes are not UTF-8"):
        assert_queued(channel_stub, b"\xff")
    with pytest.raises(TypeError, match="these bytes are not UTF-8"):
        channel_stub.timeline.of(b"\xff")


def test_that_nothing_was_sent_to_a_misspelt_client_is_warned_of(channel_client, channel_stub):
    channel_client("alice")
    with pytest.warns(UserWarning, match="nothing is known of client id 'alcie'"):
        assert_sent(channel_stub, "alcie", "x", count=0)


def test_what_was_before_a_reset_of_all_is_not_called_never(channel_client, channel_stub):
    channel_client("alice")
    channel.send_message("alice", "x")
    channel_stub.reset("all")
    assert failure_of(assert_sent, channel_stub, "alice", "x")[0] == (
        "'x' was not sent to alice: it was pending before the reset, and not sent since "
        "reset('all')"
    )
    assert failure_of(assert_sent, channel_stub, "alice", "y")[0] == (
        "'y' was not sent to alice: send_message was not called since reset('all')"
    )
    assert failure_of(assert_connected, channel_stub, "alice")[0] == (
        "alice is not connected: it did not connect since reset('all')"
    )


def test_an_app_that_was_set_too_late(channel_client, channel_stub):
    alice = channel_client("alice")
    channel_stub.app = print
    with pytest.raises(AssertionError) as failure:
        alice.receive()
    first, *_, hint = str(failure.value).split("\n")
    assert first.endswith("in this test, and no app was set when alice connected")
    assert hint.startswith("  hint: Set channel_stub.app before that. ")


def test_a_drop_that_is_missed_is_waited_for_as_a_drop(channel_stub):
    hint = failure_of(assert_dropped, channel_stub, "alice", "x")[-1]
    assert hint.endswith("channel_stub.wait_for('drop', 'alice') waits for it.")
    channel.send_message("alice", "x")
    channel_stub.wait_for("drop", "alice")
