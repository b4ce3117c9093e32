"""What became of messages and connections, as failures and timelines tell it."""

from __future__ import annotations

import json
import re
import threading

import pytest

from pytest_channelstub import (
    ChannelServiceStub,
    FakeClock,
    InvalidTokenError,
    assert_connected,
    assert_dropped,
    assert_not_sent,
    assert_queued,
    assert_sent,
    channel,
)
from pytest_channelstub._record.diagnosis import Diagnosis
from pytest_channelstub._record.outcomes import Outcomes, format_record
from pytest_channelstub._record.remarks import describe_left_messages, list_remarks


def first_line(assertion, *arguments, **keywords):
    with pytest.raises(AssertionError) as caught:
        assertion(*arguments, **keywords)
    return str(caught.value).split("\n")[0]


def hint_of(assertion, *arguments, **keywords):
    with pytest.raises(AssertionError) as caught:
        assertion(*arguments, **keywords)
    found = re.search(r"^  hint: (.*)$", str(caught.value), re.MULTILINE)
    return found and found[1]


def without_lines(text):
    return re.sub(r"\.py:\d+", ".py:N", text)


@pytest.mark.parametrize(
    ("end", "outcome"),
    [
        (
            lambda stub, _: stub.clock.advance(3),
            "lost at +2.0 s, when alice timed out, idle for 2 s",
        ),
        (lambda _, alice: alice.close(), "lost at +0.5 s, when alice closed its channel"),
        (
            lambda stub, _: stub.disconnect_channel_event("alice"),
            "lost at +0.5 s, when alice was disconnected",
        ),
        (
            lambda stub, alice: stub.clear_channel_messages(alice.token),
            "lost at +0.5 s, when clear_channel_messages cleared the queue",
        ),
        (lambda stub, _: stub.reset("queues"), "lost at +0.5 s, when the stub was reset"),
        (lambda _, alice: alice.receive(), "read at +0.5 s by a ChannelClient"),
        (
            lambda stub, alice: stub.get_channel_messages(alice.token).clear(),
            "taken out of the list that get_channel_messages returned",
        ),
    ],
    ids=["timeout", "close", "disconnect", "clear", "reset", "read", "taken"],
)
def test_what_became_of_a_message_that_is_not_pending(
    end, outcome, channel_stub, channel_clock, channel_client
):
    alice = channel_client("alice")
    channel.send_message("alice", "hi")
    channel_clock.advance(0.5)
    end(channel_stub, alice)

    assert first_line(assert_queued, channel_stub, "alice", "hi") == (
        f"'hi' is not pending for alice: it was sent at +0.0 s and {outcome}"
    )
    assert_sent(channel_stub, "alice", "hi")


@pytest.mark.parametrize(
    ("end", "reason"),
    [
        (lambda stub, _: stub.clock.advance(3), "timed out at +2.0 s, idle for 2 s"),
        (lambda _, alice: alice.close(), "closed its channel at +0.5 s"),
        (
            lambda stub, _: stub.disconnect_channel_event("alice"),
            "was disconnected at +0.5 s",
        ),
    ],
    ids=["timeout", "close", "disconnect"],
)
def test_why_a_message_between_two_connections_was_dropped(
    end, reason, channel_stub, channel_clock, channel_client
):
    alice = channel_client("alice")
    channel_clock.advance(0.5)
    end(channel_stub, alice)
    channel_clock.move_to(channel_clock.start + 5)
    channel.send_message("alice", "hi")
    assert first_line(assert_connected, channel_stub, "alice") == (
        f"alice is not connected: it {reason}"
    )
    channel_clock.advance(1)
    channel_client("alice")

    assert first_line(assert_queued, channel_stub, "alice", "hi") == (
        f"'hi' is not pending for alice: it was dropped at +5.0 s: alice {reason}, and connected "
        "again only at +6.0 s"
    )


def test_a_message_to_a_client_that_never_connects(channel_stub):
    channel.send_message("alice", "hi")
    assert first_line(assert_sent, channel_stub, "alice", "hi") == (
        "'hi' did not reach alice: it was dropped at +0.0 s: alice did not connect in this test"
    )


def test_a_message_read_after_another_was_taken_out_of_the_live_list(channel_stub, channel_client):
    alice = channel_client("alice")
    channel.send_message("alice", "one")
    channel.send_message("alice", "two")
    channel_stub.get_channel_messages(alice.token).pop(0)
    channel_stub.pop_first_message(alice.token)

    assert first_line(assert_queued, channel_stub, "alice", "two").endswith(
        "it was sent at +0.0 s and read at +0.0 s by pop_first_message"
    )


def test_a_message_between_others_that_was_taken_out_of_the_live_list(channel_stub, channel_client):
    alice = channel_client("alice")
    for message in "abc":
        channel.send_message("alice", message)
    channel_stub.get_channel_messages(alice.token).pop(1)

    assert first_line(assert_queued, channel_stub, "alice", "a", "b", "c") == (
        "'b' is not pending for alice: it was sent at +0.0 s and taken out of the list that "
        "get_channel_messages returned"
    )


def test_a_message_that_the_test_itself_put_into_the_live_list(channel_stub, channel_client):
    alice = channel_client("alice")
    channel.send_message("alice", "hello")
    channel_stub.get_channel_messages(alice.token).append("by hand")

    assert first_line(assert_queued, channel_stub, "alice", "hello") == (
        "'by hand' is pending for alice, and was not expected: the test put it into the list"
    )
    assert first_line(assert_queued, channel_stub, "alice", "hello", "zzz") == (
        "'zzz' is not pending for alice: the one message sent to alice is not like it"
    )


def test_messages_in_another_order(channel_stub, channel_client):
    channel_client("alice")
    channel.send_message("alice", "one")
    channel.send_message("alice", "two")

    assert first_line(assert_queued, channel_stub, "alice", "two", "one") == (
        "the messages for alice are pending in another order than expected"
    )
    assert hint_of(assert_queued, channel_stub, "alice", "two", "one") == (
        "Messages are pending in the order in which they were sent."
    )
    assert_queued(channel_stub, "alice", "one", "two")


def test_messages_more_than_expected(channel_stub, channel_clock, channel_client):
    channel_client("alice")
    channel.send_message("alice", "one")
    channel_clock.advance(1)
    channel.send_message("alice", "two")

    assert first_line(assert_queued, channel_stub, "alice", "one") == (
        "'two' is pending for alice, and was not expected: sent at +1.0 s"
    )
    assert first_line(assert_queued, channel_stub, "alice") == (
        "'one' (and 1 more) is pending for alice, and nothing was expected: sent at +0.0 s"
    )
    assert first_line(assert_sent, channel_stub, "alice", "two", count=0) == (
        "'two' was sent to alice once, and was not expected"
    )
    assert first_line(assert_not_sent, channel_stub, "alice") == (
        "nothing was to be sent to alice, and 2 messages were"
    )
    assert first_line(assert_not_sent, channel_stub, "alice", "two") == (
        "nothing like 'two' was to be sent to alice, and 'two' was sent at +1.0 s and is pending"
    )
    assert first_line(assert_dropped, channel_stub, "alice", "two") == (
        "'two' to alice was not dropped: alice was connected, and it was sent at +1.0 s and is "
        "pending"
    )


def test_of_two_equal_messages_the_one_that_is_missing_is_named(channel_stub, channel_client):
    alice = channel_client("alice")
    channel.send_message("alice", "tick")
    channel.send_message("alice", "tick")
    alice.receive()

    assert first_line(assert_queued, channel_stub, "alice", "tick", "tick").endswith(
        "it was sent at +0.0 s and read at +0.0 s by a ChannelClient"
    )


def test_a_message_that_was_sent_less_often_than_expected(
    channel_stub, channel_clock, channel_client
):
    channel_client("alice", keep_alive=True)
    for often, last in (("once", ""), ("twice", ", the last"), ("3 times", ", the last")):
        channel_clock.advance(1)
        channel.send_message("alice", "tick")

        assert first_line(assert_sent, channel_stub, "alice", "tick", count=4) == (
            f"'tick' was sent to alice {often}, and was expected 4 times"
        )
        assert first_line(assert_queued, channel_stub, "alice", *["tick"] * 4).endswith(
            f"it was sent to alice only {often}{last} at +{channel_clock.elapsed} s"
        )


def test_a_second_message_that_went_to_a_client_id_that_reads_alike(channel_stub, channel_client):
    alice = channel_client("alice")
    channel_client("Alice")
    channel.send_message("alice", "hi")
    channel.send_message("Alice", "hi")

    for to in ("alice", alice.token, alice.token.encode()):
        assert first_line(assert_sent, channel_stub, to, "hi", count=2) == (
            "'hi' was sent to alice once, and was expected twice: another one was sent at +0.0 s "
            "to 'Alice', which differs from 'alice' in case"
        )


@pytest.mark.parametrize(
    ("messages", "expected", "advice"),
    [
        (
            ["hi", "ho"],
            [["hi", "ho"]],
            "Pass them one by one: assert_queued(channel_stub, 'a', 'hi', 'ho').",
        ),
        (["hi", "ho"], [["ho"]], "Pass them one by one: assert_queued(channel_stub, 'a', 'ho')."),
        (
            ["x", "hi"],
            ["x", ["hi"]],
            "Pass them one by one: assert_queued(channel_stub, 'a', 'x', 'hi').",
        ),
        (
            ['{"n": 1}'],
            [[{"n": 1}]],
            "Pass them one by one: assert_queued(channel_stub, 'a', *messages).",
        ),
        (
            ["x" * 99],
            [["x" * 99]],
            "Pass them one by one: assert_queued(channel_stub, 'a', *messages).",
        ),
        ([], [[]], "Pass none: assert_queued(channel_stub, 'a')."),
    ],
)
def test_a_list_of_messages_that_are_pending_one_by_one(
    messages, expected, advice, channel_stub, channel_client
):
    channel_client("a")
    for message in messages:
        channel.send_message("a", message)

    for kind in (list, tuple):
        given = [kind(one) if isinstance(one, list) else one for one in expected]
        assert first_line(assert_queued, channel_stub, "a", *given).endswith(
            f" is not pending for a: a {kind.__name__} stands for one JSON message"
        )
        assert hint_of(assert_queued, channel_stub, "a", *given) == advice


def test_a_list_that_was_dropped_is_named_before_its_items(channel_stub, channel_client):
    channel.send_message("alice", "[]")
    channel_client("alice")
    assert "it was dropped at +0.0 s" in first_line(assert_queued, channel_stub, "alice", [])


def test_a_handler_that_is_still_running(channel_stub, channel_client):
    release, entered = threading.Event(), threading.Event()

    def app(environ, start_response):
        entered.set()
        release.wait(5)
        start_response("200 OK", [])
        return []

    channel_stub.app = app
    thread = threading.Thread(target=channel_client, args=("alice",))
    thread.start()
    try:
        entered.wait(5)
        reason = (
            "the app's handler of /_ah/channel/connected/ is still running, which was called when "
            "alice connected (+0.0 s)"
        )
        assert first_line(assert_sent, channel_stub, "alice", "hi") == (
            f"'hi' was not sent to alice: {reason}"
        )
        assert first_line(channel_stub.wait_for, "connect", "alice", timeout=0) == (
            f"no 'connect' event of alice within 0 s of real time: {reason}"
        )
    finally:
        release.set()
        channel_stub.wait_for("request", "alice")
        thread.join()


def test_a_thread_that_is_still_running(channel_stub, channel_client):
    channel_client("alice")
    release, entered = threading.Event(), threading.Event()

    def push():
        entered.set()
        release.wait(5)
        channel.send_message("alice", "hi")

    thread = threading.Thread(target=push)
    thread.start()
    try:
        entered.wait(5)
        assert without_lines(first_line(assert_sent, channel_stub, "alice", "hi")) == (
            "'hi' was not sent to alice: a thread is still running push() at "
            "test_diagnosis.py:N, and may send it later"
        )
        assert hint_of(assert_sent, channel_stub, "alice", "hi") == (
            "Wait for it: channel_stub.wait_for('send', 'alice')."
        )
        assert [without_lines(remark) for remark in list_remarks(channel_stub)] == [
            "a thread is still running push() at test_diagnosis.py:N: what it sends comes later"
        ]
    finally:
        release.set()
        channel_stub.wait_for("send", "alice")
        thread.join()
    assert_sent(channel_stub, "alice", "hi")


def test_a_timer_that_has_still_to_run(channel_stub, channel_client):
    def push():
        channel.send_message("alice", "hi")

    channel_client("alice")
    timer = threading.Timer(60, push)
    timer.start()
    try:
        assert without_lines(first_line(assert_sent, channel_stub, "alice", "hi")) == (
            "'hi' was not sent to alice: a threading.Timer has still to run push() at "
            "test_diagnosis.py:N, and may send it later"
        )
    finally:
        timer.cancel()
        timer.join()


# The timeline, remarks on it, and what strict lists.


def test_a_timeline_says_why_a_message_was_dropped_and_which_line_sent_it(
    channel_stub, channel_clock, channel_client
):
    channel_clock.advance(1.5)
    channel.send_message("bob", "hi")
    channel_clock.advance(0.5)
    channel_client("bob").close()

    line = "(test_diagnosis.py:N in "
    line += "test_a_timeline_says_why_a_message_was_dropped_and_which_line_sent_it)"
    shown = without_lines(str(channel_stub.timeline)).split("\n")
    assert shown[0] == f"+1.5 s  drop     bob  'hi'  <- before bob connected (+2.0 s)  {line}"
    assert shown[4] == f"+2.0 s  close    bob  0 unread  {line}"


def test_a_timeline_in_colour_says_the_same(channel_stub, channel_client):
    channel.send_message("bob", "hi")
    channel_client("bob")
    coloured = format_record(channel_stub.timeline, colour=True)
    assert "\x1b[31mdrop   \x1b[0m" in coloured
    assert re.sub(r"\x1b\[\d*m", "", coloured) == str(channel_stub.timeline)


def test_a_timeline_may_show_the_last_events_or_messages_in_full(channel_stub):
    for number in range(5):
        channel.send_message("alice", f"{number}" * 100)
    last = format_record(channel_stub.timeline, last=2).split("\n")
    assert last[0] == "(3 earlier events left out)"
    assert len(last) == 3
    assert "(100 characters)" in last[1]
    full = format_record(channel_stub.timeline, last=2, full=True)
    assert repr("0" * 100) in full


def test_remarks_on_a_refusal_on_the_app_and_on_another_stub(channel_stub, channel_client):
    def app(environ, start_response):
        raise KeyError("user")

    channel_stub.app = app
    with pytest.raises(KeyError):
        channel_client("alice")
    with pytest.raises(channel.InvalidMessageError):
        channel.send_message("alice", "")
    with ChannelServiceStub(time_func=FakeClock().time):
        channel.send_message("alice", "hi")
        name = "test_remarks_on_a_refusal_on_the_app_and_on_another_stub()"
        assert [without_lines(remark) for remark in list_remarks(channel_stub)] == [
            (
                "the app raised KeyError: 'user' when alice connected (+0.0 s); "
                f"caused by {name} at test_diagnosis.py:N"
            ),
            f"a call for alice was refused at +0.0 s; called by {name} at test_diagnosis.py:N",
            f"1 message went to another stub, which was built by {name} at test_diagnosis.py:N",
        ]
    assert len(list_remarks(channel_stub)) == 2
    assert len(list_remarks(channel_stub, text=f"it failed: {list_remarks(channel_stub)[0]}")) == 1


def test_a_remark_on_a_time_out_that_is_due_and_was_not_noticed():
    now = [100.0]
    with ChannelServiceStub(time_func=lambda: now[0]) as stub:
        stub.connect_channel(channel.create_channel("alice"))
        assert list_remarks(stub) == []
        now[0] = 105.0
        assert list_remarks(stub) == [
            "alice was due to time out at +2.0 s: the stub notices at its next call"
        ]
        assert not stub.is_connected("alice")
        assert list_remarks(stub) == []
    assert list_remarks(stub) == []


def test_messages_that_were_left_dropped_or_unread(channel_stub, channel_client):
    for number in range(3):
        channel.send_message("bob", f"early {number}")
    alice = channel_client("alice")
    channel.send_message("alice", "read")
    channel.send_message("alice", "lost")
    alice.receive()
    alice.close()
    source = "; sent by test_messages_that_were_left_dropped_or_unread() at test_diagnosis.py:N"

    def left(*strict):
        return [
            without_lines(line) for line in describe_left_messages(channel_stub.timeline, strict)
        ]

    dropped = [
        f"'early {number}' to bob was dropped at +0.0 s: bob did not connect in this test{source}"
        for number in range(3)
    ]
    lost = (
        "'lost' to alice was sent at +0.0 s and lost at +0.0 s, when alice closed its channel"
        f"{source}"
    )
    assert left("dropped") == dropped
    assert left("unread") == [lost]
    assert left("dropped", "unread") == [*dropped, lost]
    assert_dropped(channel_stub, "bob", "early 1")
    assert_sent(channel_stub, "alice", "lost")
    assert left("dropped", "unread") == [dropped[0], dropped[2]]


def test_of_many_messages_that_were_left_the_first_twenty_are_listed(channel_stub):
    for number in range(25):
        channel.send_message("bob", f"{number}")
    left = describe_left_messages(channel_stub.timeline, {"dropped"})
    assert len(left) == 21
    assert left[-1] == "and 5 more"


# Waiting.


def test_a_wait_explains_as_an_assertion_does(channel_stub, channel_client):
    channel_client("alice")
    channel.send_message("Alice", "hi")
    reason = "'hi' was sent at +0.0 s to 'Alice', which differs from 'alice' in case"
    for kind in ("send", "read"):
        assert first_line(channel_stub.wait_for, kind, "alice", timeout=0, message="hi") == (
            f"no {kind!r} event of alice with 'hi' within 0 s of real time: {reason}"
        )
    channel.send_message("alice", "hi")
    assert first_line(channel_stub.wait_for, "read", "alice", timeout=0, message="hi") == (
        "no 'read' event of alice with 'hi' within 0 s of real time: 'hi' was sent at +0.0 s and "
        "is pending"
    )
    assert first_line(channel_stub.wait_for, "send", "alice", timeout=0, count=2) == (
        f"only 1 of 2 'send' events of alice within 0 s of real time: {reason}"
    )


@pytest.mark.parametrize(
    ("kind", "client_id", "text"),
    [
        ("connect", "bob", " of bob within 0 s of real time: bob did not connect in this test"),
        (
            "close",
            "alice",
            (
                " of alice within 0 s of real time: alice is connected, since +0.0 s: it times out "
                "at +2.0 s if it does not poll before"
            ),
        ),
        ("close", "bob", " of bob within 0 s of real time: bob did not connect in this test"),
        ("clear", "alice", " of alice within 0 s of real time"),
        ("error", None, " within 0 s of real time"),
    ],
)
def test_a_wait_for_a_connection_or_its_end(kind, client_id, text, channel_stub, channel_client):
    channel_client("alice")
    text = f"no {kind!r} event{text}"
    assert first_line(channel_stub.wait_for, kind, client_id, timeout=0) == text


def test_a_wait_for_a_time_out_on_a_clock_that_stands_still(
    channel_stub, channel_clock, channel_client
):
    channel_client("alice")
    assert hint_of(channel_stub.wait_for, "timeout", "alice", timeout=0) == (
        "The stub's clock moves only when the test moves it: channel_clock.advance(2)."
    )
    channel_clock.advance(2)
    assert channel_stub.wait_for("timeout", "alice", timeout=0).client_id == "alice"
    assert first_line(channel_stub.wait_for, "close", "alice", timeout=0) == (
        "no 'close' event of alice within 0 s of real time: alice timed out at +2.0 s, idle for 2 s"
    )


def test_a_token_that_can_last_no_longer_calls_for_a_new_one(channel_stub, channel_client):
    channel_client("alice", keep_alive=True)
    channel_stub.clock.advance(days=2)
    channel.send_message("alice", "late")

    assert "Connect it again with a new token" in hint_of(
        assert_queued, channel_stub, "alice", "late"
    )


def test_an_open_connection_has_no_end_to_tell(channel_stub, channel_client):
    channel_client("alice")
    outcomes = Outcomes(channel_stub.timeline)
    connection = outcomes.history.connection("alice")

    assert outcomes.describe_over(connection, "alice") == "alice is connected"
    assert outcomes.token_end(connection) is None
    assert Diagnosis(channel_stub, "nobody").describe_connection() == "nobody is not connected"


def test_the_message_to_another_client_that_comes_nearest_is_told(channel_stub, channel_client):
    for client_id in ("alice", "bob"):
        channel_client(client_id)
    items = dict.fromkeys("abcdefgh", 1)
    channel.send_message("bob", json.dumps(items))
    for client_id in ("alice", "somebody else"):
        assert_not_sent(channel_stub, client_id)

    with pytest.raises(AssertionError, match="the nearest message, to bob, has h = 1, not 2"):
        assert_sent(channel_stub, "alice", items | {"h": 2})


def test_a_message_that_went_to_another_client_is_sent_to_the_right_one(
    channel_stub, channel_client
):
    for client_id in ("alice", "bob"):
        channel_client(client_id)
    channel.send_message("bob", "hi")
    hint = hint_of(assert_sent, channel_stub, "alice", "bye")
    assert hint == "Check to whom the app sends."

    channel.send_message("alice", "bye")

    assert_sent(channel_stub, "alice", "bye")


def test_the_timeline_names_the_line_that_used_a_token_which_is_not_valid(channel_stub):
    with pytest.raises(InvalidTokenError):
        channel_stub.connect_channel("alice")
    name = "test_the_timeline_names_the_line_that_used_a_token_which_is_not_valid"
    text = re.sub(r"\.py:\d+", ".py:N", str(channel_stub.timeline))
    assert text.endswith(f"'alice' (not a token), invalid  (test_diagnosis.py:N in {name})")
