from __future__ import annotations

import json
import re
import traceback
from unittest import mock

import pytest
from dirty_equals import IsStr

from pytest_channelstub import (
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
from pytest_channelstub._record.matching import ANY


def test_exactly_these_are_pending_in_order(channel_stub, channel_client):
    alice = channel_client("alice")
    assert_queued(channel_stub, "alice")
    channel.send_message("alice", "one")
    channel.send_message("alice", '{"two": 2}')
    channel.send_message("alice", "three and more")

    assert_queued(channel_stub, "alice", "one", {"two": 2}, re.compile("^three"))
    assert_queued(channel_stub, alice.token, "one", {"two": 2}, re.compile("^three"))
    for wrong in [(), ("one",), ("one", {"two": 2}), ({"two": 2}, "one", re.compile("three"))]:
        with pytest.raises(AssertionError):
            assert_queued(channel_stub, "alice", *wrong)


def test_a_message_counts_as_sent_whether_read_or_not(channel_stub, channel_client):
    alice = channel_client("alice")
    channel.send_message("alice", "tick")
    channel.send_message("alice", "tick")
    alice.receive()

    assert_sent(channel_stub, "alice", "tick")
    assert_sent(channel_stub, alice.token, "tick", count=2)
    assert_sent(channel_stub, "alice", "tock", count=0)
    for count in (0, 1, 3):
        with pytest.raises(AssertionError):
            assert_sent(channel_stub, "alice", "tick", count=count)


@pytest.mark.parametrize(
    ("count", "error", "text"),
    [
        ("1", TypeError, "count is '1', of type str: pass a whole number, or None for at"),
        (True, TypeError, "count is True, of type bool: pass a whole number, or None for at"),
        (1.0, TypeError, "count is 1.0, of type float: pass a whole number, or None for at"),
        (-1, ValueError, "count is -1: pass how many times it was sent, at least 0"),
    ],
)
def test_a_count_that_is_not_a_whole_number_is_refused_and_changes_nothing(
    count, error, text, channel_stub, channel_client
):
    channel_client("alice")
    channel.send_message("alice", "tick")
    before = channel_stub.timeline[:]

    with pytest.raises(error, match=re.escape(text)):
        assert_sent(channel_stub, "alice", "tick", count=count)
    assert channel_stub.timeline == before
    assert channel_stub.timeline._acknowledged == set()


def test_a_dropped_message_is_neither_sent_nor_not_sent(channel_stub):
    channel.send_message("alice", "hi")

    assert_dropped(channel_stub, "alice")
    assert_dropped(channel_stub, "alice", "hi")
    with pytest.raises(AssertionError):
        assert_sent(channel_stub, "alice", "hi")
    with pytest.raises(AssertionError):
        assert_not_sent(channel_stub, "alice", "hi")


def test_nothing_or_nothing_like_it_was_sent(channel_stub, channel_client):
    channel_client("alice")
    assert_not_sent(channel_stub, "alice")
    channel.send_message("alice", "hi")

    assert_not_sent(channel_stub, "alice", "ho")
    assert_not_sent(channel_stub, "bob")
    with pytest.raises(AssertionError):
        assert_not_sent(channel_stub, "alice")
    with pytest.raises(AssertionError):
        assert_dropped(channel_stub, "alice")


def test_a_message_sent_to_a_token_after_its_end_is_found_under_that_token(
    channel_stub, channel_clock
):
    token = channel.create_channel("alice", duration_minutes=1)
    channel_clock.advance(minutes=2)
    channel.send_message(token, "hi")

    assert_dropped(channel_stub, token, "hi")
    with pytest.raises(AssertionError):
        assert_dropped(channel_stub, "alice", "hi")


def test_who_is_connected(channel_stub, channel_clock, channel_client):
    assert_disconnected(channel_stub, "alice")
    alice = channel_client("alice")
    assert_connected(channel_stub, "alice")
    assert_connected(channel_stub, alice.token)
    with pytest.raises(AssertionError):
        assert_disconnected(channel_stub, "alice")
    channel_clock.advance(2)
    assert_disconnected(channel_stub, alice.token)


def test_bytes_that_are_utf_8_are_text(channel_stub, channel_client):
    channel_client("zo\u00eb")
    channel.send_message("zo\u00eb", "hi")
    name = "zo\u00eb".encode()
    assert_queued(channel_stub, name, "hi")
    assert_sent(channel_stub, name, "hi")
    assert_connected(channel_stub, name)
    assert_token_valid(channel_stub, channel.create_channel(name).encode(), name)
    with pytest.raises(TypeError, match="of type bytes: pass a client id or a token"):
        assert_queued(channel_stub, b"\xff")


def test_whether_a_token_is_valid(channel_stub, channel_clock):
    token = channel.create_channel("alice", duration_minutes=1)
    assert_token_valid(channel_stub, token)
    assert_token_valid(channel_stub, token, "alice")
    channel_clock.advance(minutes=1, seconds=1)
    assert_token_expired(channel_stub, token)
    for not_expired in ("alice", token + "x", None, 3):
        with pytest.raises(AssertionError):
            assert_token_expired(channel_stub, not_expired)
        with pytest.raises(AssertionError):
            assert_token_valid(channel_stub, not_expired)


def test_messages_that_an_assertion_has_named_are_acknowledged(channel_stub, channel_client):
    channel.send_message("alice", "early")
    channel.send_message("alice", "as early")
    alice = channel_client("alice")
    for text in ("one", "two", "three", "four"):
        channel.send_message("alice", text)
    alice.receive()

    assert_dropped(channel_stub, "alice", "early")
    assert_sent(channel_stub, "alice", "two")
    alice.receive()
    assert_queued(channel_stub, "alice", "three", "four")

    named = [channel_stub.timeline[index] for index in sorted(channel_stub.timeline._acknowledged)]
    assert [event.message for event in named] == ["early", "two", "three", "four"]


def test_a_failed_assertion_acknowledges_nothing(channel_stub, channel_client):
    channel_client("alice")
    channel.send_message("alice", "hi")
    with pytest.raises(AssertionError):
        assert_queued(channel_stub, "alice", "ho")
    assert channel_stub.timeline._acknowledged == set()


def test_a_failure_points_at_the_line_of_the_test(channel_stub):
    with pytest.raises(AssertionError) as caught:
        assert_sent(channel_stub, "alice", "hi")
    shown = [entry for entry in caught.traceback if not entry.ishidden(caught)]
    assert [entry.name for entry in shown] == ["test_a_failure_points_at_the_line_of_the_test"]
    assert "hint:" in "".join(traceback.format_exception_only(caught.value))


def test_a_wrong_argument_is_refused(channel_stub):
    with pytest.raises(
        TypeError, match="the first argument is 'alice', of type str: pass the stub"
    ):
        assert_sent("alice", "hi", "ho")
    with pytest.raises(TypeError, match="the first argument is 'alice'"):
        assert_not_sent("alice")
    with pytest.raises(TypeError, match="of type int: pass a client id or a token, as in"):
        assert_sent(channel_stub, 1, "hi")
    channel.send_message("bob", "hi")
    with pytest.raises(TypeError, match="pattern of bytes"):
        assert_dropped(channel_stub, "bob", re.compile(b"hi"))


@pytest.mark.parametrize(
    ("assertion", "use"),
    [
        (assert_queued, "assert_queued(channel_stub, alice.client_id, ...)"),
        (assert_sent, "assert_sent(channel_stub, alice.client_id, ...)"),
        (assert_not_sent, "assert_not_sent(channel_stub, alice.client_id, ...)"),
        (assert_dropped, "assert_dropped(channel_stub, alice.client_id, ...)"),
        (assert_connected, "assert_connected(channel_stub, alice.client_id)"),
        (assert_disconnected, "assert_disconnected(channel_stub, alice.client_id)"),
    ],
)
def test_a_client_instead_of_its_client_id_is_refused_with_what_to_pass(
    assertion, use, channel_stub, channel_client
):
    alice = channel_client("alice")
    more = ("hi",) if assertion is assert_sent else ()

    with pytest.raises(
        TypeError, match=f"ChannelClient: pass its client_id, as in {re.escape(use)}$"
    ):
        assertion(channel_stub, alice, *more)
    with pytest.raises(TypeError, match=f"ChannelClient: pass the stub, as in {re.escape(use)}$"):
        assertion(alice, "hi", *more)


def test_a_client_instead_of_its_token_is_refused_with_what_to_pass(channel_stub, channel_client):
    alice = channel_client("alice")
    for assertion in (assert_token_valid, assert_token_expired):
        with pytest.raises(
            AssertionError, match=r"of type ChannelClient\n  hint: Pass its token\."
        ):
            assertion(channel_stub, alice)
        use = f"pass the stub, as in {assertion.__name__}(channel_stub, token)"
        with pytest.raises(TypeError, match=re.escape(use)):
            assertion(alice, alice.token)
    with pytest.raises(TypeError, match="ChannelClient: pass the client id whose token it is"):
        assert_token_valid(channel_stub, alice.token, alice)


@pytest.mark.parametrize(
    "value",
    [len, str, {"hello"}, frozenset(), iter("hello"), print, "a".upper, object()],
    ids=lambda value: type(value).__name__,
)
def test_what_equals_no_message_is_refused_also_where_nothing_may_be_sent(channel_stub, value):
    for check in (
        lambda: assert_not_sent(channel_stub, "alice", value),
        lambda: assert_sent(channel_stub, ANY, value, count=0),
        lambda: assert_dropped(channel_stub, "alice", value),
        lambda: assert_queued(channel_stub, "alice", value),
    ):
        with pytest.raises(TypeError, match=r"expected is .* pass a string, a value of JSON, a "):
            check()


@pytest.mark.parametrize("value", [None, True, 1.5, (), [], {}, re.compile("a"), mock.ANY, IsStr])
def test_what_may_equal_a_message_is_asked(channel_stub, value):
    assert_not_sent(channel_stub, "alice", value)


def test_what_holds_by_mistake_gives_a_warning(channel_stub, channel_client):
    channel_client("alice")
    channel.send_message("alice", '{"secret":1}')
    for arguments in [('{"secret":1}',), ('{"secret":1}', "alice")]:
        with pytest.warns(UserWarning, match="is a message that was sent, and no client"):
            assert_not_sent(channel_stub, *arguments)
    with pytest.warns(UserWarning, match="was sent, which is the same JSON as"):
        assert_not_sent(channel_stub, "alice", '{"secret": 1}')
    with pytest.raises(AssertionError):  # as the warnings say
        assert_not_sent(channel_stub, ANY, '{"secret":1}')
    with pytest.raises(AssertionError):
        assert_not_sent(channel_stub, "alice", {"secret": 1})


def test_none_and_an_empty_list_stand_for_one_message_each(channel_stub):
    for value, kind in [(None, "None"), ([], "a list")]:
        with pytest.raises(AssertionError, match=f"{kind} stands for one JSON message") as caught:
            assert_queued(channel_stub, "alice", value)
        assert "Pass none: assert_queued(channel_stub, 'alice')." in str(caught.value)
    assert_queued(channel_stub, "alice")


def test_an_equality_that_knows_nothing_of_other_messages_leaves_the_failure_alone(channel_stub):
    class Third:
        def __eq__(self, other):
            return other[2] == "c"

        __hash__ = None

    channel.send_message("bob", "x")
    channel.send_message("alice", "a longer message")
    with pytest.raises(AssertionError, match="the message sent is not equal to it"):
        assert_queued(channel_stub, "alice", Third())


def test_all_failures_hold_on_the_longest_and_deepest_of_messages(channel_stub, channel_client):
    channel_client("alice")
    for message in (
        "x" * 32_767,
        "[" * 16_000 + "]" * 16_000,
        "\n" * 32_767,
        "[1" + ",1" * 16_000 + "]",
    ):
        channel.send_message("alice", message)
    deep = []
    for _ in range(5_000):
        deep = [deep]
    for expected in ("x" * 32_766, deep, "\n" * 32_766, [1] * 16_000, 10**5_000, "\ud800"):
        with pytest.raises(AssertionError) as caught:
            assert_queued(channel_stub, "alice", expected)
        assert len(str(caught.value)) < 6_000


def failure_of(assertion, *arguments, **keywords):
    with pytest.raises(AssertionError) as caught:
        assertion(*arguments, **keywords)
    return str(caught.value)


def difference_of(stub, expected, message):
    """How a failure tells one message from the expected one, as one line."""
    channel.send_message("alice", message)
    text = failure_of(assert_queued, stub, "alice", expected).partition("\ntimeline:")[0]
    return " ".join(text.partition("for alice: ")[2].split())


class Unprintable:
    __hash__ = None

    def __eq__(self, other):
        return False

    def __repr__(self):
        return "<\x1b[31m>"


@pytest.mark.parametrize(
    ("expected", "message", "difference"),
    [
        ({"a": 1}, '{"a": 1, "b": 2}', "has b too, which is 2"),
        ({"a": 1, "b": 2}, '{"a": 1}', "has no b, expected 2"),
        (
            {"a": True},
            '{"a": 1}',
            "has a = 1, not True (JSON has true apart from 1, and false from",
        ),
        ({"a": 1}, '{"a": "1"}', "has a = '1', not 1 (a string there)"),
        ({"a": 1, 2: 3}, '{"a": 1}', "has no [2: JSON's keys are strings], expected 3"),
        ({"x y": 1, "z": 2}, '{"x y": 2, "z": 2}', "has ['x y'] = 2, not 1"),
        ({"a": {"b": [1, 2]}}, '{"a": {"b": [1, 3]}}', "has a.b[1] = 3, not 2"),
        ([1, 2, 3, 4], "[1, 3, 4]", "has no [1], expected 2"),
        (1, "2", "is 2, not 1"),
        ({"a": 1}, "no json", "is not JSON: Expecting value"),
        (
            {"a": "x" * 300 + "!" + "y" * 300},
            '{"a": "' + "x" * 300 + "?" + "y" * 300 + '"}',
            "x?y",
        ),
    ],
)
def test_the_difference_names_the_place_and_the_value_there(
    expected, message, difference, channel_stub, channel_client
):
    channel_client("alice")
    assert difference in difference_of(channel_stub, expected, message)


@pytest.mark.parametrize(
    ("sent", "expected"),
    [
        (["x", "y"], [ANY, "x"]),
        (['{"n": 1}', '{"n": 2}'], [{"n": ANY}, {"n": 1}]),
        (["ab", "b", "c"], [re.compile("[abc]"), re.compile("[ab]"), re.compile("ab")]),
        (["x", "y", '{"n": 1}', '{"n": 2}'], [ANY, {"n": ANY}, {"n": 1}, "x"]),
    ],
)
def test_a_value_that_fits_several_messages_leaves_each_the_one_that_it_needs(
    sent, expected, channel_stub, channel_client
):
    channel_client("alice")
    for message in sent:
        channel.send_message("alice", message)
    headline = failure_of(assert_queued, channel_stub, "alice", *expected).split("\n")[0]
    assert headline == "the messages for alice are pending in another order than expected"


class WithoutTruth:
    """As an array, which has no truth of its own."""

    __hash__ = None

    def __eq__(self, other):
        raise ValueError("ambiguous")


def test_an_equality_that_raises_leaves_the_reason_alone(channel_stub):
    channel.send_message("alice", '{"a": 1}')
    text = failure_of(assert_queued, channel_stub, "alice", {"a": WithoutTruth()})
    assert "has a = 1, not <" in text.split("\n")[0]
    channel.send_message("bob", "[1, 2]")
    text = failure_of(assert_queued, channel_stub, "bob", [2, WithoutTruth()])
    assert "differs in 2 fields" in text.split("\n")[0]


def test_a_list_into_which_a_test_has_put_what_is_no_message(channel_stub, channel_client):
    alice = channel_client("alice")
    channel_stub.get_channel_messages(alice.token).append({"a": 1})
    channel_stub.get_channel_messages(alice.token).append("x")
    assert "'y' is not pending" in failure_of(assert_queued, channel_stub, "alice", "y")
    headline = failure_of(assert_queued, channel_stub, "alice", "x").split("\n")[0]
    assert headline.endswith(" the test put it into the list")
    channel_stub.get_channel_messages(alice.token)[:] = ["x", "x"]
    assert failure_of(assert_queued, channel_stub, "alice").split("\n")[0] == (
        "'x' is pending for alice twice, and nothing was expected: the test put it into the list"
    )


def test_a_value_that_holds_itself_matches_nothing(channel_stub, channel_client):
    channel_client("alice")
    channel.send_message("alice", '{"a": {"a": 1}}')
    circle = {}
    circle["a"] = circle
    text = failure_of(assert_sent, channel_stub, "alice", circle)
    assert "has a.a = 1, not {'a': {...}}" in text.split("\n")[0]


@pytest.mark.parametrize("depth", [400, 800])
def test_a_value_as_deep_as_pythons_json_reads_matches(channel_stub, channel_client, depth):
    channel_client("alice")
    deep = 1
    for _ in range(depth):
        deep = {"a": deep}
    channel.send_message("alice", json.dumps(deep))
    assert_sent(channel_stub, "alice", deep)


def test_keys_that_are_no_strings_are_no_matter_of_order(channel_stub, channel_client):
    channel_client("alice")
    text = difference_of(channel_stub, [{1: "a"}], '[{"1": "a"}]')
    assert "another order" not in text
    assert "JSON's keys are strings" in text


def test_a_long_queue_in_another_order_is_one_in_another_order(channel_stub, channel_client):
    channel_client("alice")
    values = [{"number": number} for number in range(250)]
    for value in values:
        channel.send_message("alice", json.dumps(value))
    headline = failure_of(assert_queued, channel_stub, "alice", *values[::-1]).split("\n")[0]
    assert headline == "the messages for alice are pending in another order than expected"


class Unshowable:
    __hash__ = None

    def __eq__(self, other):
        return False

    def __repr__(self):
        raise LookupError


@pytest.mark.parametrize("assertion", [assert_sent, assert_queued, assert_dropped])
@pytest.mark.parametrize("expected", [Unshowable(), {"a": Unshowable(), "b": 2}, [1, Unshowable()]])
def test_a_value_that_cannot_be_shown_leaves_the_failure_alone(
    assertion, expected, channel_stub, channel_client
):
    channel_client("alice")
    for message in ('{"a": 1, "b": 2}', "[1, 2]", '{"a": "x", "b": 2}', "x"):
        channel.send_message("alice", message)
    text = failure_of(assertion, channel_stub, "alice", expected)
    kind = type(expected).__name__
    assert text.startswith(f"a value of type {kind} (its repr raised LookupError)")


def test_the_difference_of_long_texts_is_shown_where_it_is(channel_stub, channel_client):
    channel_client("alice")
    expected = "-" * 100 + "a" * 500 + "-" * 100
    text = difference_of(channel_stub, expected, "-" * 100 + "b" * 500 + "-" * 100)
    assert re.search(r"found \.\.\.'-+b+\.\.\.b+-+'\.\.\.", text)


def test_the_difference_of_many_lines_is_a_diff_of_which_the_first_lines_are_shown(
    channel_stub, channel_client
):
    channel_client("alice")
    expected = "\n".join(["same"] * 10 + [f"old {number}" for number in range(20)])
    text = difference_of(channel_stub, expected, expected.replace("old", "new"))
    lines = " ".join(f"- 'old {number}'" for number in range(11))
    assert f"- expected, + found 'same' {lines} (29 more lines: run with -vv)" in text


def test_many_fields_that_differ_are_counted(channel_stub, channel_client):
    channel_client("alice")
    text = difference_of(channel_stub, dict.fromkeys("abcdefghijklmno", 1), "{}")
    assert text.startswith("the message sent differs in 15 fields a expected 1, and is missing b")
    assert "(3 more fields: run with -vv)" in text


@pytest.mark.parametrize("message", ["'\"" * 36, "'" * 71 + '"', 'it\'s "quoted" ' * 6])
def test_a_message_full_of_quotes_is_shortened_like_any_other(
    message, channel_stub, channel_client
):
    channel_client("alice")
    channel.send_message("alice", message)
    text = failure_of(assert_queued, channel_stub, "alice")
    [shown] = re.findall(r"^(.*) is pending for alice, and nothing was expected", text)
    length = f" ({len(message)} characters)"
    assert shown.endswith(length)
    assert len(shown.removesuffix(length)) == 72


def test_an_expected_value_is_shown_in_words_and_without_control_characters(
    channel_stub, channel_client
):
    channel_client("alice")
    channel.send_message("alice", "hi")
    for expected, shown in (
        (re.compile("^ho"), "a match of '^ho'"),
        (Unprintable(), r"<\x1b[31m>"),
    ):
        assert failure_of(assert_queued, channel_stub, "alice", expected).startswith(shown)


def test_any_is_one_value_and_reads_as_its_name():
    assert len({ANY, ANY}) == 1
    assert repr(ANY) == "ANY"


def test_of_many_messages_a_failure_shows_the_first(channel_stub, channel_client):
    channel_client("alice")
    for number in range(14):
        channel.send_message("alice", f"message {number}")

    text = failure_of(assert_queued, channel_stub, "alice", "hi")
    assert "10. 'message 9'" in text
    assert "(4 more: run with -vv)" in text
    text = failure_of(assert_not_sent, channel_stub, "alice")
    assert "\n  (4 more: run with -vv)" in text
    text = failure_of(assert_sent, channel_stub, "alice", "hi")
    assert "none of the 14 messages sent to alice is like it" in text
