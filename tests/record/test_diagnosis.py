"""One test for each reason that a failure tells apart."""

from __future__ import annotations

import pytest

from pytest_channelstub import ChannelClient, ChannelServiceStub, FakeClock, apiproxy_errors, assert_connected, assert_dropped, assert_not_sent, assert_queued, assert_sent, assert_token_expired, assert_token_valid, channel
from pytest_channelstub._service.channel_service_pb import SendMessageRequest, VoidProto
from pytest_channelstub._record.diagnosis import how_alike


def reason_of(assertion, *arguments, **keywords):
    """The likely reason of a failure, its advice included, as one line."""
    with pytest.raises(AssertionError) as caught:
        assertion(*arguments, **keywords)
    told = str(caught.value).partition("likely reason:")[2].partition("\ntimeline:")[0]
    return " ".join(told.split())


def test_a_message_dropped_before_the_first_connect(channel_stub, channel_clock, channel_client):
    channel_clock.advance(1.5)
    channel.send_message("alice", "hi")
    channel_clock.advance(0.5)
    channel_client("alice")

    assert reason_of(assert_queued, channel_stub, "alice", "hi") == (
        "sent at +1.5 s and dropped: alice connected first at +2.0 s. "
        "Connect it before the app sends: channel_client('alice')."
    )


def test_a_message_to_a_client_that_never_connects(channel_stub):
    channel.send_message("alice", "hi")

    assert reason_of(assert_sent, channel_stub, "alice", "hi") == (
        "sent at +0.0 s and dropped: alice never connected. "
        "Connect it before the app sends: channel_client('alice')."
    )


def test_a_message_dropped_after_a_timeout(channel_stub, channel_clock, channel_client):
    channel_client("alice")
    channel_clock.advance(5)
    channel.send_message("alice", "hi")

    assert reason_of(assert_queued, channel_stub, "alice", "hi") == (
        "sent at +5.0 s and dropped: alice had timed out at +2.0 s, idle for 2 s. "
        "Keep it connected: channel_client('alice', keep_alive=True), or poll every 2 s."
    )


def test_a_message_dropped_between_two_connections(channel_stub, channel_clock, channel_client):
    channel_client("alice")
    channel_clock.advance(5)
    channel.send_message("alice", "hi")
    channel_clock.advance(1)
    channel_client("alice")

    assert reason_of(assert_queued, channel_stub, "alice", "hi").startswith(
        "sent at +5.0 s and dropped: alice had timed out at +2.0 s, idle for 2 s, "
        "and connected again only at +6.0 s."
    )


def test_a_message_dropped_when_a_kept_alive_client_has_outlived_its_token(
    channel_stub, channel_clock, channel_client
):
    alice = channel_client("alice", duration_minutes=1, keep_alive=True)
    channel_clock.advance(minutes=2)
    channel.send_message("alice", "hi")

    assert not alice.connected
    assert reason_of(assert_queued, channel_stub, "alice", "hi").startswith(
        "sent at +2 min 0 s and dropped: alice had timed out at +1 min 3 s, idle for 2 s "
        "(its token had expired at +1 min 1 s)."
    )


def test_a_message_read_after_another_was_taken_out_of_the_live_list(channel_stub, channel_client):
    alice = channel_client("alice")
    channel.send_message("alice", "one")
    channel.send_message("alice", "two")
    channel_stub.get_channel_messages(alice.token).pop(0)
    channel_stub.pop_first_message(alice.token)

    assert reason_of(assert_queued, channel_stub, "alice", "two").startswith(
        "sent at +0.0 s and already read at +0.0 s by pop_first_message."
    )


def test_a_message_that_was_taken_out_of_the_live_list(channel_stub, channel_client):
    alice = channel_client("alice")
    for message in ("hi", "ho", "hi"):
        channel.send_message("alice", message)
    channel_stub.get_channel_messages(alice.token).pop(0)

    assert reason_of(assert_queued, channel_stub, "alice", "hi", "hi", "ho") == (
        "sent at +0.0 s and taken out of the list of get_channel_messages. "
        "assert_sent(stub, 'alice', ...) holds for messages that are no longer pending, too."
    )


class WithoutHash(str):
    __slots__ = ()
    __hash__ = None

    def __eq__(self, other):
        return str.__eq__(self, other)


@pytest.mark.parametrize("kind", [str, WithoutHash])
def test_a_message_between_others_that_was_taken_out_of_the_live_list(
    kind, channel_stub, channel_client
):
    alice = channel_client("alice")
    for message in "abc":
        request = SendMessageRequest("alice", kind(message))
        channel_stub.MakeSyncCall("channel", "SendChannelMessage", request, VoidProto())
    channel_stub.get_channel_messages(alice.token).pop(1)

    assert reason_of(assert_queued, channel_stub, "alice", "a", "b", "c").startswith(
        "sent at +0.0 s and taken out of the list of get_channel_messages."
    )


def test_a_message_that_the_test_itself_put_into_the_live_list(channel_stub, channel_client):
    alice = channel_client("alice")
    channel.send_message("alice", "hello")
    channel_stub.get_channel_messages(alice.token).append("by hand")

    assert reason_of(assert_queued, channel_stub, "alice", "hello").startswith(
        "1 message more than expected, the first put into the list by hand."
    )
    assert reason_of(assert_queued, channel_stub, "alice", "hello", "another").startswith(
        "never sent like this"
    )


def test_a_message_dropped_after_a_close(channel_stub, channel_clock, channel_client):
    channel_client("alice").close()
    channel_clock.advance(1)
    channel.send_message("alice", "hi")

    assert reason_of(assert_queued, channel_stub, "alice", "hi") == (
        "sent at +1.0 s and dropped: alice had closed its channel at +0.0 s. "
        "Connect it again before the app sends: channel_client('alice')."
    )


def test_a_message_dropped_after_a_disconnect_by_hand(channel_stub, channel_clock, channel_client):
    channel_client("alice")
    channel_stub.disconnect_channel_event("alice")
    channel_clock.advance(1)
    channel.send_message("alice", "hi")

    assert reason_of(assert_queued, channel_stub, "alice", "hi") == (
        "sent at +1.0 s and dropped: alice was disconnected by hand at +0.0 s "
        "(disconnect_channel_event). "
        "Connect it again before the app sends: channel_client('alice')."
    )


@pytest.mark.parametrize(
    ("read", "reader"),
    [
        (
            lambda stub, alice: stub.connect_and_pop_first_message(alice.token),
            "a poll (connect_and_pop_first_message)",
        ),
        (lambda stub, alice: stub.pop_first_message(alice.token), "pop_first_message"),
        (lambda _, alice: alice.receive(), "a ChannelClient"),
    ],
    ids=["poll", "pop", "client"],
)
def test_a_message_that_was_read_already(read, reader, channel_stub, channel_clock, channel_client):
    alice = channel_client("alice")
    channel.send_message("alice", "hi")
    channel_clock.advance(0.5)
    read(channel_stub, alice)

    assert reason_of(assert_queued, channel_stub, "alice", "hi") == (
        f"sent at +0.0 s and already read at +0.5 s by {reader}. assert_sent(stub, 'alice', ...) "
        "holds for messages that are no longer pending, too."
    )


def test_a_message_that_was_cleared(channel_stub, channel_clock, channel_client):
    alice = channel_client("alice")
    channel.send_message("alice", "hi")
    channel_clock.advance(0.5)
    channel_stub.clear_channel_messages(alice.token)

    assert reason_of(assert_queued, channel_stub, "alice", "hi").startswith(
        "sent at +0.0 s and cleared unread at +0.5 s (clear_channel_messages)."
    )


def test_a_message_that_a_reset_has_emptied_out(channel_stub, channel_clock, channel_client):
    channel_client("alice")
    channel.send_message("alice", "hi")
    channel_clock.advance(0.5)
    channel_stub.reset("queues")

    assert reason_of(assert_queued, channel_stub, "alice", "hi") == (
        "sent at +0.0 s and emptied out unread at +0.5 s by a reset of the stub. A stub that "
        "outlives a test is reset between tests: @pytest.mark.channel_reset."
    )


@pytest.mark.parametrize(
    ("leave", "told"),
    [
        (lambda stub, _: stub.clock.advance(3), "+2.0 s, when alice timed out (idle for 2 s)"),
        (lambda _, alice: alice.close(), "+0.0 s, when alice closed its channel"),
        (
            lambda stub, _: stub.disconnect_channel_event("alice"),
            "+0.0 s, when alice was disconnected by hand",
        ),
    ],
    ids=["timeout", "close", "disconnect"],
)
def test_a_message_that_was_lost_with_its_queue(leave, told, channel_stub, channel_client):
    alice = channel_client("alice")
    channel.send_message("alice", "hi")
    leave(channel_stub, alice)

    assert reason_of(assert_queued, channel_stub, "alice", "hi").startswith(
        f"sent at +0.0 s and lost unread at {told}."
    )


def test_a_message_to_another_client(channel_stub, channel_client):
    channel_client("alice")
    channel_client("bob")
    channel.send_message("bob", "hi")

    assert reason_of(assert_queued, channel_stub, "alice", "hi") == (
        "sent at +0.0 s to bob, not to alice. Assert on 'bob', or have the app send to 'alice'."
    )


@pytest.mark.parametrize(
    ("other", "difference"),
    [
        ("Alice", "case"),
        ("alice ", "white space"),
        ("al ice", "white space"),
        (" ALICE\n", "case and white space"),
    ],
)
def test_a_message_to_a_client_id_that_looks_alike(other, difference, channel_stub, channel_client):
    channel_client("alice")
    channel_client("bob")
    channel.send_message(other, "hi")
    channel.send_message("bob", "hi")

    assert reason_of(assert_queued, channel_stub, "alice", "hi").startswith(
        f"sent at +0.0 s to {other!r}, not to 'alice': the two differ in {difference}."
    )


def test_a_client_id_does_not_differ_from_itself():
    assert how_alike("alice", "alice") == ""


def test_a_message_to_an_expired_token(channel_stub, channel_clock):
    token = channel.create_channel("alice", duration_minutes=1)
    channel_clock.advance(minutes=2)
    ChannelClient(channel_stub, channel.create_channel("alice"))
    channel.send_message(token, "hi")

    told = (
        "sent at +2 min 0 s and dropped: it was addressed to token "
        f"{token[:6]}...alice, which expired at +1 min 1 s, and an expired token counts as an "
        "unknown client id. "
        "Send to the client id 'alice', or to a token that is still valid."
    )
    assert reason_of(assert_queued, channel_stub, "alice", "hi") == told
    assert reason_of(assert_sent, channel_stub, token, "hi") == told


def test_a_message_that_was_never_sent(channel_stub, channel_client):
    assert reason_of(assert_queued, channel_stub, "alice", "hi") == (
        "never sent: the app has sent no message at all."
    )
    channel_client("bob")
    channel.send_message("bob", "something else")
    assert reason_of(assert_queued, channel_stub, "alice", "hi") == (
        "never sent: no message went to alice, and none to others is like it."
    )
    channel.send_message("alice", "quite another thing")
    assert reason_of(assert_queued, channel_stub, "alice", "hi") == (
        "never sent like this: 1 message went to alice, and none matches."
    )


def test_a_message_whose_sending_failed_by_an_error_that_was_set(
    channel_stub, channel_clock, channel_client
):
    channel_client("alice")
    channel_stub.SetError(apiproxy_errors.OverQuotaError("enough"))
    channel_clock.advance(1)
    with pytest.raises(apiproxy_errors.OverQuotaError):
        channel.send_message("alice", "hi")

    assert reason_of(assert_queued, channel_stub, "alice", "hi") == (
        "sending it failed at +1.0 s: SendChannelMessage raised OverQuotaError (SetError), an error "
        "that was set (SetError or channel_error). "
        "stub.SetError(None) lifts an error that was set for all calls."
    )


@pytest.mark.parametrize(
    "assertion", [assert_queued, assert_sent, assert_dropped, assert_connected, assert_token_valid]
)
def test_a_token_of_another_stub_or_an_earlier_test(assertion, channel_stub):
    with ChannelServiceStub(time_func=FakeClock("2001-01-01").time):
        foreign = channel.create_channel("alice")
    more = ("hi",) if assertion in (assert_queued, assert_sent, assert_dropped) else ()

    assert reason_of(assertion, channel_stub, foreign, *more) == (
        f"token {foreign[:6]}...alice was not made by this stub: it belongs to another stub or an "
        "earlier test. Use a token that create_channel has returned in this test."
    )


def test_messages_in_another_order(channel_stub, channel_client):
    channel_client("alice")
    channel.send_message("alice", "one")
    channel.send_message("alice", "two")

    assert reason_of(assert_queued, channel_stub, "alice", "two", "one") == (
        "the same messages in another order: they wait in the order they were sent."
    )


def test_a_message_too_many(channel_stub, channel_clock, channel_client):
    channel_client("alice")
    channel.send_message("alice", "one")
    channel_clock.advance(1)
    channel.send_message("alice", "two")

    assert reason_of(assert_queued, channel_stub, "alice", "one").startswith(
        "1 message more than expected, the first sent at +1.0 s, and still pending."
    )
    assert reason_of(assert_sent, channel_stub, "alice", "two", count=0) == (
        "one too many was sent at +1.0 s, and still pending."
    )


def test_of_two_equal_messages_the_one_that_is_missing_is_told_of(channel_stub, channel_client):
    alice = channel_client("alice")
    channel.send_message("alice", "tick")
    channel.send_message("alice", "tick")
    alice.receive()

    assert reason_of(assert_queued, channel_stub, "alice", "tick", "tick").startswith(
        "sent at +0.0 s and already read at +0.0 s by a ChannelClient."
    )


def test_a_message_that_was_sent_less_often_than_expected(
    channel_stub, channel_clock, channel_client
):
    channel_client("alice", keep_alive=True)
    channel_client("bob")
    channel.send_message("bob", "tick")
    for often in ("once only,", "twice only, the last", "3 times only, the last"):
        channel_clock.advance(1)
        channel.send_message("alice", "tick")

        told = f"sent to alice {often} at +{channel_clock.elapsed} s."
        assert reason_of(assert_sent, channel_stub, "alice", "tick", count=4) == told
        assert reason_of(assert_queued, channel_stub, "alice", *["tick"] * 4) == told


def test_a_second_message_that_went_to_a_client_id_that_looks_alike(channel_stub, channel_client):
    alice = channel_client("alice")
    channel_client("Alice")
    channel.send_message("alice", "hi")
    channel.send_message("Alice", "hi")

    for to in ("alice", alice.token):
        assert reason_of(assert_sent, channel_stub, to, "hi", count=2).startswith(
            "sent at +0.0 s to 'Alice', not to 'alice': the two differ in case."
        )


@pytest.mark.parametrize(
    ("messages", "expected", "told"),
    [
        (
            ["hi", "ho"],
            [["hi", "ho"]],
            "Pass them one by one: assert_queued(stub, 'a', 'hi', 'ho').",
        ),
        (["hi", "ho"], [["ho"]], "Pass them one by one: assert_queued(stub, 'a', 'ho')."),
        (["x", "hi"], ["x", ["hi"]], "Pass them one by one: assert_queued(stub, 'a', 'x', 'hi')."),
        (['{"n": 1}'], [[{"n": 1}]], "Pass them one by one: assert_queued(stub, 'a', *messages)."),
        (["x" * 99], [["x" * 99]], "Pass them one by one: assert_queued(stub, 'a', *messages)."),
        ([], [[]], "Pass none: assert_queued(stub, 'a')."),
    ],
)
def test_a_list_of_messages_that_are_pending_one_by_one(
    messages, expected, told, channel_stub, channel_client
):
    channel_client("a")
    for message in messages:
        channel.send_message("a", message)

    for kind in (list, tuple):
        given = [kind(one) if isinstance(one, list) else one for one in expected]
        assert reason_of(assert_queued, channel_stub, "a", *given) == (
            f"a {kind.__name__} stands for one JSON message. {told}"
        )
        with pytest.raises(AssertionError) as caught:
            assert_queued(channel_stub, "a", *given)
        assert "nearest miss" not in str(caught.value)


@pytest.mark.parametrize(
    ("messages", "expected"), [(["hi"], ["hi", "ho"]), (["hi", "ho"], ["hi", "hi"]), (["hi"], [])]
)
def test_a_list_of_other_messages_than_are_pending_is_one_that_was_never_sent(
    messages, expected, channel_stub, channel_client
):
    channel_client("alice")
    for message in messages:
        channel.send_message("alice", message)

    assert reason_of(assert_queued, channel_stub, "alice", expected).startswith("never sent like")


def test_a_list_that_was_sent_and_dropped_is_told_of_before_its_items(channel_stub, channel_client):
    channel.send_message("alice", "[]")
    channel_client("alice")

    assert reason_of(assert_queued, channel_stub, "alice", []).startswith(
        "sent at +0.0 s and dropped"
    )


def test_a_message_that_should_not_have_been_sent(channel_stub, channel_clock, channel_client):
    channel_clock.advance(1)
    channel.send_message("alice", "early")
    channel_client("alice")
    channel.send_message("alice", "late")

    assert reason_of(assert_not_sent, channel_stub, "alice") == (
        "sent at +1.0 s and dropped: alice connected first at +1.0 s; "
        "sent at +1.0 s, and still pending."
    )


def test_a_message_that_was_queued_and_not_dropped(channel_stub, channel_client):
    channel_client("alice")
    channel.send_message("alice", "hi")

    assert reason_of(assert_dropped, channel_stub, "alice", "hi") == (
        "alice was connected, and it was sent at +0.0 s, and still pending."
    )


def test_a_client_that_is_not_connected(channel_stub, channel_clock, channel_client):
    assert reason_of(assert_connected, channel_stub, "alice").startswith("alice never connected.")
    channel_client("alice")
    assert reason_of(assert_connected, channel_stub, "ALICE").startswith(
        "'alice' connected, which differs in case; ALICE never connected."
    )
    channel_clock.advance(3)
    assert reason_of(assert_connected, channel_stub, "alice").startswith(
        "alice had timed out at +2.0 s, idle for 2 s. Keep it connected:"
    )


def test_a_token_whose_time_is_over(channel_stub, channel_clock):
    token = channel.create_channel("alice", duration_minutes=1)
    channel_clock.advance(minutes=1)
    assert reason_of(assert_token_expired, channel_stub, token) == (
        "it is now +1 min 0 s, 1 s before its end. Let time pass: channel_clock.advance(1)."
    )
    channel_clock.advance(1)
    assert reason_of(assert_token_valid, channel_stub, token) == (
        "it is now +1 min 1 s, and a token ends at its very second."
    )
    channel_clock.advance(59)
    assert reason_of(assert_token_valid, channel_stub, token) == (
        "it is now +2 min 0 s, 59 s after its end."
    )


def test_what_is_no_token(channel_stub):
    token = channel.create_channel("alice")
    assert reason_of(assert_token_valid, channel_stub, "alice") == (
        "that is a client id: pass what create_channel returned for it."
    )
    assert reason_of(assert_token_valid, channel_stub, token + "x").startswith(
        "a token is md5hex-channel-random-expirysecond-clientid, and the hash has to be"
    )
    assert reason_of(assert_token_expired, channel_stub, None) == (
        "a token is a string, and this is of type NoneType."
    )
    assert reason_of(assert_token_valid, channel_stub, token, "bob") == (
        "the token carries the client id 'alice'."
    )


def test_a_client_that_receives_nothing_is_told_why(channel_stub, channel_clock, channel_client):
    channel_clock.advance(1)
    channel.send_message("alice", "hi")
    alice = channel_client("alice")

    assert reason_of(alice.receive).startswith(
        "the last message was sent at +1.0 s and dropped: alice connected first at +1.0 s."
    )
    alice.close()
    with pytest.raises(AssertionError, match="the client of 'alice' is closed"):
        alice.receive()


def test_a_client_that_was_sent_nothing_is_told_so(channel_client):
    assert reason_of(channel_client("alice").receive) == (
        "never sent: the app has sent no message at all."
    )


def test_a_client_that_is_not_connected_while_another_is(channel_stub, channel_client):
    channel_client("bob")
    assert reason_of(assert_connected, channel_stub, "alice").startswith("alice never connected.")


def test_another_message_whose_sending_failed_is_no_reason(channel_stub, channel_client):
    channel_client("alice")
    channel_stub.SetError(apiproxy_errors.OverQuotaError("enough"))
    with pytest.raises(apiproxy_errors.OverQuotaError):
        channel.send_message("alice", "ho")

    assert reason_of(assert_queued, channel_stub, "alice", "hi") == (
        "never sent: the app has sent no message at all."
    )
