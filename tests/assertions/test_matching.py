from __future__ import annotations

import functools
import json
import re
import sys
from enum import IntEnum
from unittest import mock

import dirty_equals
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_channelstub._assertions.diff import compare, find_differences, similarity
from pytest_channelstub._record.matching import (
    ANY,
    NotJson,
    is_same,
    matches,
    read_json,
    spelling_difference,
)


@pytest.mark.parametrize(
    ("expected", "message"),
    [
        ("hi", "hi"),
        ({"a": 1, "b": [True, None, "x"]}, '{ "b":[true,null,"x"], "a":1 }'),
        ([], "[]"),
        ((1, 2), "[1, 2]"),
        ({"a": (1, 2)}, '{"a": [1, 2]}'),
        (1, "1"),
        (1, "1.0"),
        (1.0, "1"),
        (100, "1e2"),
        (0.1, "0.1"),
        (0.1, "0.10"),
        (1e22, "10000000000000000000000"),
        (-0.0, "0"),
        (IntEnum("Colour", "RED").RED, "1"),
        (True, "true"),
        (False, " false\n"),
        (None, "null"),
        ("null", "null"),
        (re.compile("^h.$"), "hi"),
        ({"a": re.compile("^h")}, '{"a": "hi"}'),
        (ANY, "whatever"),
        ({"a": ANY}, '{"a": [1]}'),
        (mock.ANY, "whatever"),
        ({"a": mock.ANY}, '{"a": null}'),
    ],
)
def test_a_message_matches(expected, message):
    assert matches(expected, message)


@pytest.mark.parametrize(
    ("expected", "message"),
    [
        ("hi", '"hi"'),
        ("hi", "Hi"),
        (1, "true"),
        (True, "1"),
        (0, "false"),
        (False, "0"),
        ({"a": True}, '{"a": 1}'),
        ([0], "[false]"),
        (1, '"1"'),
        (None, '"null"'),
        (None, "0"),
        (9007199254740992, "9007199254740993"),
        (float("nan"), "NaN"),
        ({"a": float("nan")}, '{"a": NaN}'),
        ({1: "a"}, '{"1": "a"}'),
        ({"a": 1}, '{"a": 1, "b": 2}'),
        ({"a": 1, "b": 2}, '{"a": 1}'),
        ({"a": None}, "{}"),
        ({}, "[]"),
        ([], "{}"),
        ([1, 2], "[2, 1]"),
        ([1], "[1, 1]"),
        ({"a": 1}, "no json"),
        ({"a": 1}, ""),
        ([1], "[1"),
        pytest.param([[1]], "[" * 30_000, id="nested too deeply"),
        (re.compile("^h.$"), "oh hi"),
        (object(), "hi"),
        (b"hi", "hi"),
    ],
)
def test_a_message_does_not_match(expected, message):
    assert not matches(expected, message)


def test_a_number_too_long_for_python_and_lone_surrogates():
    assert not matches(1, "1" + "0" * 4500)
    assert matches({"\ud800": "\udfff"}, r'{"\ud800": "\udfff"}')


def test_of_a_key_that_stands_twice_the_last_counts_as_in_a_page():
    assert matches({"a": 2}, '{"a": 1, "a": 2}')


@pytest.mark.parametrize(
    ("left", "right", "difference"),
    [
        ("alice", "alice", ""),
        ("alice", "bob", ""),
        ("alice", "Alice", "case"),
        ("alice", "alice\n", "white space at the end"),
        ("alice", " al ice", "white space"),
        ("alice", " ALICE", "case and white space"),
        ("jos\u00e9", "jose\u0301", "Unicode form"),
        ("alice", "\u0430lice", "characters that look alike"),
        ("alice", "al\u200bice", "characters that look alike"),
        ("1", "\u0661", ""),
        ("Jos\u00e9", "jose\u0301\n", "Unicode form and case and white space"),
        ("alice", "\u0410lice", "characters that look alike and case"),
    ],
)
def test_in_what_alone_two_texts_differ(left, right, difference):
    assert spelling_difference(left, right) == difference
    assert spelling_difference(right, left) == difference


def test_dirty_equals_at_the_top():
    assert matches(dirty_equals.IsStr(regex="h."), "hi")
    assert matches(dirty_equals.IsJson({"a": dirty_equals.IsPositiveInt}), '{"a": 3}')
    assert matches(dirty_equals.IsStr(max_length=3) & dirty_equals.Contains("i"), "hi")
    assert matches(dirty_equals.IsPartialDict(a=1), '{"a": 1, "b": 2}')
    assert matches(dirty_equals.IsList(1, 2, 3), "[1, 2, 3]")
    assert matches(dirty_equals.IsPositiveInt, "17")
    assert not matches(dirty_equals.IsPartialDict(a=2), '{"a": 1, "b": 2}')
    assert not matches(dirty_equals.IsInt, '{"a": 1}')
    assert not matches(dirty_equals.IsDict, "no json")


def test_a_negated_dirty_equals_is_asked_about_the_text_alone():
    no_secret = ~dirty_equals.Contains("secret")
    assert not matches(no_secret, '{"a": "secret"}')
    assert matches(no_secret, '{"a": "public"}')


def test_dirty_equals_inside_json():
    message = json.dumps({"id": 7, "at": "2020-01-01T00:00:00+00:00", "tags": ["a", "b"], "x": 0.5})
    assert matches(
        {
            "id": dirty_equals.IsPositiveInt,
            "at": dirty_equals.IsDatetime(iso_string=True),
            "tags": dirty_equals.IsList("b", "a", check_order=False),
            "x": dirty_equals.IsApprox(0.5),
        },
        message,
    )
    assert matches(
        {"id": 7, "at": dirty_equals.IsStr, "tags": dirty_equals.HasLen(2), "x": 0.5}, message
    )
    assert not matches({"id": dirty_equals.IsStr, "at": ANY, "tags": ANY, "x": ANY}, message)
    assert not matches([dirty_equals.IsInt], "[true]")


def test_anything_else_decides_by_its_own_equality():
    class Shouted:
        def __eq__(self, other):
            return other.isupper()

        __hash__ = None

    assert matches(Shouted(), "HI")
    assert not matches(Shouted(), "hi")
    assert matches({"a": [Shouted()]}, '{"a": ["HI"]}')


def test_a_pattern_of_bytes_is_refused():
    with pytest.raises(TypeError, match=re.escape("compile it from a str, as in re.compile('hi')")):
        matches(re.compile(b"hi"), "hi")


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        ("no json", "Expecting value"),
        ('{"a": NaN}', "NaN is Python's, and no value of JSON"),
        pytest.param("[" * 30_000, "nested too deeply", id="nested too deeply"),
    ],
)
def test_what_is_not_json_says_why(message, reason):
    read = read_json(message)
    assert isinstance(read, NotJson)
    assert reason in read.reason


# As st.text(), which takes two seconds of a first run to find out which characters UTF-8 has.
text = functools.partial(st.text, st.characters(exclude_categories=["Cs"]))
json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | text(),
    lambda inner: st.lists(inner) | st.dictionaries(text(), inner),
    max_leaves=20,
)


@given(json_values, st.booleans())
def test_every_value_matches_its_own_json(value, compact):
    text = json.dumps(
        value, separators=(",", ":") if compact else None, indent=None if compact else 2
    )
    if not isinstance(value, str):
        assert matches(value, text)


@given(json_values, json_values)
def test_two_values_match_only_where_their_json_is_the_same(left, right):
    if not isinstance(left, str):
        same = json.dumps(left, sort_keys=True) == json.dumps(right, sort_keys=True)
        numbers = re.compile(r"-?\d+\.\d+(e[+-]?\d+)?|-0")
        if not numbers.search(json.dumps([left, right])):
            assert matches(left, json.dumps(right)) == same


@given(json_values, text())
def test_no_message_whatever_makes_matching_raise(value, message):
    assert matches(value, message) in (True, False)


def test_what_is_nested_deeper_than_python_calls_is_compared_all_the_way_down():
    left, right = [], []
    for _ in range(2 * sys.getrecursionlimit()):
        left, right = [left], [right]

    assert is_same(left, right)
    assert not is_same([left], right)
    assert not matches(left, "[[]]")
    assert len(list(find_differences(left, right))) == 1


def test_a_text_that_matches_is_as_near_as_can_be():
    assert similarity("hi", "hi") == 1.0


@pytest.mark.parametrize(
    ("expected", "message", "sentence"),
    [
        ('{"a": 1}', json.dumps(json.dumps({"a": 1})), "is the same JSON, dumped twice"),
        ({"a": 1}, '{"a": 1, "b": 2}', "has b too, which is 2"),
    ],
)
def test_a_comparison_says_in_one_sentence_what_differs(expected, message, sentence):
    assert compare(expected, message).sentence == sentence


@pytest.mark.parametrize("key", [1, (1, 2)], ids=["a number", "a tuple"])
def test_items_with_keys_that_json_does_not_have_are_compared_too(key):
    sentence = compare([{"a": 1, key: 2}], '[{"a": 1}]').sentence

    assert sentence == f"has no [0][{key!r}: JSON's keys are strings], expected 2"


def test_each_of_several_differences_has_a_line():
    lines = "\n".join(compare({"a": 1}, '{"a": 2, "b": 2}').lines)

    assert "expected 1, found 2" in lines
    assert "not expected, and is 2" in lines
