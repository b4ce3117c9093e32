"""The pages of tests: what is drawn of a timeline, and how it reads."""

from __future__ import annotations

import functools
import json
import re
from html import unescape
from html.parser import HTMLParser
from itertools import pairwise

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pytest_channelstub import (
    ChannelClient,
    ChannelServiceStub,
    FakeClock,
    InvalidTokenError,
    TokenTimedOutError,
    apiproxy_errors,
    channel,
)
from pytest_channelstub._html.layout import Layout
from pytest_channelstub._html.page import write_page
from pytest_channelstub._record.timeline import KINDS, Row, Timeline
from pytest_channelstub._service.delivery import ChannelAppWarning


class Checker(HTMLParser):
    """Collects what a page would load or run, and checks that its elements are balanced."""

    VOID = ("meta", "br", "wbr", "link", "img", "input")

    def __init__(self):
        super().__init__()
        self.open, self.texts, self.suspicious = [], [], []

    def handle_starttag(self, tag, attributes):
        if tag not in self.VOID:
            self.open.append(tag)
        self._look(tag, attributes)

    def handle_startendtag(self, tag, attributes):
        self._look(tag, attributes)

    def _look(self, tag, attributes):
        for name, value in attributes:
            if name.startswith("on") or name in ("src", "srcset", "action", "xlink:href"):
                self.suspicious.append((tag, name, value))
            if name == "href" and not re.fullmatch(r"[\w.-]+\.html", value):
                self.suspicious.append((tag, name, value))
        if tag in ("script", "iframe", "object", "embed", "link", "base", "form"):
            self.suspicious.append((tag, None, None))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.append(data)


def check(html):
    """Check that a page is sound, needs no network and runs nothing; return its text."""
    checker = Checker()
    checker.feed(html)
    checker.close()
    assert checker.open == []
    assert checker.suspicious == []
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]", html)
    assert "url(" not in html.replace("url(#tip)", "").replace("url(#tip-soft)", "")
    assert "@import" not in html
    return "".join(checker.texts)


EVENT = re.compile(r'<g class="e k-(\w+)"><title>(.*?)</title>(.*?)</g>', re.DOTALL)


def drawn_events(html):
    """Each event of a page's picture: its kind, its tooltip, and its label."""
    return [
        (kind, unescape(title), " ".join(map(unescape, re.findall(r">([^<]+)</text>", marks))))
        for kind, title, marks in EVENT.findall(html)
    ]


def labels_of(html, *kinds):
    return [label for kind, _, label in drawn_events(html) if kind in kinds]


def titles_of(html, group):
    return [unescape(text) for text in re.findall(rf'<g class="{group}"><title>([^<]*)', html)]


def listed_events(html):
    """The lines of "The same as text", each with its notes."""
    lines = re.findall(r"<li>(?!<svg)(.*?)</li>", html)
    return [re.sub(r"<small>(.*?)</small>", r" | \1", unescape(line)) for line in lines]


@pytest.fixture
def write(tmp_path):
    """Write a page and return its HTML."""

    def write(*timelines, outcome="passed", failure="", first=0, nodeid="test_it.py::test_it"):
        pairs = [(timeline, first) for timeline in timelines]
        summary = write_page(tmp_path, nodeid, outcome, pairs, failure)
        return (tmp_path / summary["file"]).read_text("utf-8")

    return write


@pytest.fixture
def clock():
    return FakeClock()


@pytest.fixture
def stub(clock):
    with ChannelServiceStub(time_func=clock.time) as stub:
        yield stub


def test_hostile_messages_and_client_ids_are_only_text(stub, write):
    hostile = [
        "<script>alert(1)</script>",
        "\x1b[31mred",
        "a\x00b",
        "'\"><img src=x onerror=alert(1)>",
    ]
    for client_id in ("alice", *hostile):
        stub.connect_channel(channel.create_channel(client_id))
        for message in (*hostile, "x" * 32_767):
            channel.send_message(client_id, message)
    text = check(write(stub.timeline, outcome="failed", failure="\x1b[31m<script>"))
    for shown in ("<script>alert(1)</script>", r"\x1b[31mred", r"a\x00b", "(32,767 characters)"):
        assert shown in text


def test_each_event_has_a_label(stub, clock, write):
    token = channel.create_channel("alice", duration_minutes=1)
    stub.connect_channel(token)
    stub.connect_channel(token)
    for _ in range(3):
        stub.connect_and_pop_first_message(token)
    channel.send_message("alice", "one")
    clock.advance(1)
    stub.connect_and_pop_first_message(token)
    channel.send_message("alice", "two")
    channel.send_message("alice", "three")
    stub.clear_channel_messages(token)
    channel.send_message("alice", "four")
    clock.advance(2)
    channel.send_message("alice", "five")
    stub.connect_channel(token)
    stub.disconnect_channel_event("alice")
    stub.connect_channel(token)
    channel.send_message("alice", "six")
    stub.reset("queues")
    stub.disconnect("alice")
    clock.advance(60)
    with pytest.raises(TokenTimedOutError):
        stub.connect_channel(token)
    with pytest.raises(InvalidTokenError):
        stub.connect_channel("no token")
    assert [(kind, label) for kind, _, label in drawn_events(write(stub.timeline))] == [
        ("create", "token"),
        ("connect", "connected"),
        ("refresh", "refreshed"),
        ("poll", "empty poll \u00d73"),
        ("send", "one"),
        ("read", "read one"),
        ("send", "two"),
        ("send", "three"),
        ("clear", "cleared, 2 lost"),
        ("send", "four"),
        ("timeout", "timed out, 1 lost"),
        ("drop", "five dropped"),
        ("connect", "connected"),
        ("disconnect", "disconnected by hand"),
        ("connect", "connected"),
        ("send", "six"),
        ("reset", "reset: queues, 1 lost"),
        ("close", "closed"),
        ("reject", "expired token"),
        ("reject", "reject: invalid"),
    ]


def test_tooltips_and_the_text_say_what_came_of_each_message(stub, clock, write):
    token = channel.create_channel("alice")
    for _ in range(3):
        stub.connect_and_pop_first_message(token)
    channel.send_message("alice", "one")
    clock.advance(1)
    stub.connect_and_pop_first_message(token)
    channel.send_message("alice", "two")
    clock.advance(2)
    stub.connect_channel(token)
    channel.send_message("alice", "three")
    channel.send_message("alice", "four")
    stub.get_channel_messages(token).remove("three")
    page = write(stub.timeline)
    titles = [title for kind, title, _ in drawn_events(page) if kind in ("poll", "send")]
    assert [re.sub(r"\ntest_pages.py:.*", "", title) for title in titles] == [
        "3 times, from here on: +0.0 s  poll  alice",
        "+0.0 s  send  alice  'one'\nread at +1.0 s",
        "+1.0 s  send  alice  'two'\nlost at +3.0 s: timeout",
        "+3.0 s  send  alice  'three'\ntaken out of the list by hand",
        "+3.0 s  send  alice  'four'\npending at the end",
    ]
    lines = [line for line in listed_events(page) if " send " in line]
    assert [line.partition(" | test_pages.py:")[0] for line in lines] == [
        "+0.0 s  send     alice  'one' | read at +1.0 s",
        "+1.0 s  send     alice  'two' | lost at +3.0 s: timeout",
        "+3.0 s  send     alice  'three' | taken out of the list by hand",
        "+3.0 s  send     alice  'four' | pending at the end",
    ]


def test_tooltips_and_the_text_name_the_line_of_code_that_caused_an_event(stub, write):
    def notify():
        channel.send_message("alice", "hello")

    notify()
    line = f"test_pages.py:{notify.__code__.co_firstlineno + 1} in notify"
    page = write(stub.timeline)
    [(_, title, _)] = drawn_events(page)
    assert title.endswith(f"\n{line}")
    assert listed_events(page) == [f"+0.0 s  drop  alice  'hello' | {line}"]


def test_refused_calls_are_drawn_beside_the_app_and_have_no_lane(stub, write):
    with pytest.raises(channel.InvalidMessageError):
        channel.send_message("alice", {"type": "move"})
    with pytest.raises(channel.InvalidChannelClientIdError):
        channel.create_channel("x" * 257)
    page = write(stub.timeline)
    assert labels_of(page, "refuse") == [
        "refused: InvalidMessageError",
        "refused: InvalidChannelClientIdError",
    ]
    assert 'class="away"' not in page
    assert "2 refused" in page


def test_failed_calls_and_requests_to_the_app_are_drawn_beside_the_app(write, clock):
    def app(environ, start_response):
        start_response("500 Broken" if "disconnected" in environ["PATH_INFO"] else "200 OK", [])
        return []

    with ChannelServiceStub(time_func=clock.time) as stub:
        stub.app = app
        stub.connect_channel(channel.create_channel("alice"))
        with pytest.warns(ChannelAppWarning, match="500 Broken"):
            stub.disconnect("alice")
        stub.SetError(apiproxy_errors.OverQuotaError())
        with pytest.raises(apiproxy_errors.OverQuotaError):
            channel.send_message("alice", "a message")
        with pytest.raises(apiproxy_errors.OverQuotaError):
            channel.create_channel("alice")
    page = write(stub.timeline)
    assert labels_of(page, "request") == ["connected: 200 OK", "disconnected: 500 Broken"]
    assert labels_of(page, "error") == [
        "SendChannelMessage: OverQuotaError (SetError) a message",
        "CreateChannel: OverQuotaError (SetError)",
    ]
    assert page.count('<text class="word on bad" ') == 1  # the 500


MOVES = [json.dumps({"type": "move", "to": square}) for square in ("e4", "e5", "Nf3", "Nc6")]


def test_messages_that_are_alike_in_front_are_shortened_where_they_differ(stub, write):
    for number in range(12):  # narrow lanes
        stub.connect_channel(channel.create_channel(f"client-{number}"))
    for message in MOVES:
        channel.send_message("client-0", message)
    labels = labels_of(write(stub.timeline), "send")
    assert labels == ['…o": "e4"}', '…o": "e5"}', '…": "Nf3"}', '…": "Nc6"}']


def test_messages_that_are_alike_at_the_end_are_shortened_where_they_differ(stub, write):
    tail = ", and then something that is the same in both of these messages"
    for message in ("the first one" + tail, "the second one" + tail):
        channel.send_message("alice", message)
    first, second = labels_of(write(stub.timeline), "drop")
    assert first.startswith("the first one")
    assert second.startswith("the second one")


def test_a_message_that_is_read_has_the_label_with_which_it_was_sent(stub, write):
    tokens = [channel.create_channel(f"client-{number}") for number in range(12)]
    stub.connect_channel(tokens[0])
    for message in MOVES:
        channel.send_message("client-0", message)
        stub.connect_and_pop_first_message(tokens[0])
    page = write(stub.timeline)
    assert labels_of(page, "read") == [f"read {label}" for label in labels_of(page, "send")]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.fixed_dictionaries(
            {
                "type": st.sampled_from(["move", "chat", "end"]),
                "from": st.sampled_from(["alice", "bob"]),
                "number": st.integers(0, 20),
                "text": st.sampled_from(["hello", "hello world", "bye"]),
            }
        ),
        max_size=20,
        unique_by=json.dumps,
    )
)
def test_different_messages_have_different_labels(write, messages):
    with ChannelServiceStub(time_func=FakeClock().time) as stub:
        for message in messages:
            channel.send_message("alice", json.dumps(message))
    labels = labels_of(write(stub.timeline), "drop")
    assert len({*labels}) == len(messages)


@pytest.mark.parametrize("message", ["Grüße, 日本語", json.dumps("Grüße, 日本語")])
def test_printable_characters_are_shown_as_they_are(stub, write, message):
    channel.send_message("alice", message)
    [label] = labels_of(write(stub.timeline), "drop")
    assert "Grüße, 日本語" in label


def test_control_characters_are_escaped_and_what_stands_beside_them_is_not(stub, write):
    channel.send_message("alice", 'it\'s "ü" \\ \x1b\n\u200b')
    [label] = labels_of(write(stub.timeline), "drop")
    assert label == 'it\'s "ü" \\ \\x1b\\n\\u200b dropped'


def test_a_backslash_before_an_escape_keeps_it(stub, write):
    channel.send_message("alice", r'"\\u00fc" "\ud83d\ude00" "\ud83d"')
    [label] = labels_of(write(stub.timeline), "drop")
    assert label == r'"\\u00fc" "😀" "\ud83d" dropped'


def test_labels_beside_narrow_lanes_are_shortened(stub, clock, write):
    for number in range(12):
        stub.connect_channel(channel.create_channel(f"client-{number}"))
    channel.send_message("client-0", "a message of many words")
    stub.disconnect_channel_event("client-1")
    clock.advance(2)
    page = write(stub.timeline)
    assert labels_of(page, "disconnect", "timeout")[:2] == ["disconnected b…", "timed out"]


def test_time_without_events_is_left_out_with_a_mark(stub, clock, write):
    channel.send_message("alice", "one")
    clock.advance(hours=2)
    channel.send_message("alice", "two")
    clock.move_to(clock.start)
    channel.send_message("alice", "three")
    page = write(stub.timeline)
    assert re.findall(r'class="(break[^"]*)"', page) == ["break", "break back"]
    assert "2 h 0 min 0 s later" in page
    assert "2 h 0 min 0 s back" in page


def heights_of(html):
    """The top of each event's row, by kind."""
    tops = re.findall(
        r'<g class="e k-(\w+)">.*?<rect class="hit" x="0" y="([\d.]+)"', html, re.DOTALL
    )
    return {kind: float(top) + 13 for kind, top in tops}


def test_a_token_is_drawn_until_it_expires(stub, clock, write):
    stub.connect_channel(channel.create_channel("alice", duration_minutes=1))
    clock.advance(minutes=5)
    channel.send_message("alice", "late")
    channel.create_channel("alice")
    page = write(stub.timeline)
    rows = heights_of(page)
    [end] = re.findall(r'class="token-end" d="M[\d.]+ ([\d.]+)', page)
    assert rows["timeout"] < float(end) < rows["drop"]
    assert page.count('class="life"') == 2


def test_a_connection_is_drawn_until_it_ends(stub, clock, write):
    stub.connect_channel(channel.create_channel("alice"))
    clock.advance(minutes=5)
    channel.send_message("alice", "late")
    page = write(stub.timeline)
    [outline] = re.findall(r'class="live" d="([^"]+)"', page)
    ys = [float(pair.split()[1]) for pair in outline.strip("Mz").split("L")]
    rows = heights_of(page)
    assert (min(ys), max(ys)) == (rows["connect"], rows["timeout"])
    assert titles_of(page, "connection") == ["connected at +0.0 s, timeout at +2.0 s"]


def tops_of_connections(html):
    return re.findall(r'class="live" d="M[\d.]+ ([\d.]+)', html)


def test_a_client_that_connected_before_the_test_is_drawn_from_the_top(stub, clock, write):
    stub.connect_channel(channel.create_channel("alice"))
    stub._begin_epoch("queues")
    clock.advance(1)
    channel.send_message("alice", "hello")
    page = write(stub.timeline)
    assert labels_of(page, "send") == ["hello"]
    assert tops_of_connections(page) == ["0"]
    [title] = titles_of(page, "connection")
    assert title == "connected at +0.0 s, before this test, still connected at the end"


def test_a_story_over_several_tests_is_drawn_from_its_tests_first_event(stub, write):
    stub.connect_channel(channel.create_channel("alice"))
    channel.send_message("alice", "before")
    first = len(stub.timeline)
    channel.send_message("alice", "after")
    page = write(stub.timeline, first=first)
    assert labels_of(page, "send") == ["after"]
    assert tops_of_connections(page) == ["0"]


def test_a_token_that_expired_before_the_test_is_not_drawn(stub, clock, write):
    channel.create_channel("alice", duration_minutes=1)
    channel.create_channel("alice", duration_minutes=10)
    clock.advance(minutes=5)
    first = len(stub.timeline)
    channel.send_message("alice", "hello")
    clock.advance(minutes=10)
    channel.send_message("alice", "hello")
    [title] = titles_of(write(stub.timeline, first=first), "token")
    assert title.endswith("\nmade at +0.0 s, valid until +10 min 1 s")


def test_polls_that_find_nothing_share_a_row(stub, clock, write):
    token = channel.create_channel("alice")
    for _ in range(100):
        stub.connect_and_pop_first_message(token)
        clock.advance(0.1)
    assert labels_of(write(stub.timeline), "poll") == ["empty poll \u00d7100"]


@pytest.mark.parametrize(("clients", "events"), [(3, 40), (40, 1000)])
def test_no_two_lanes_or_rows_touch(stub, clock, write, clients, events):
    for number in range(events):
        channel.send_message(f"client-{number % clients}", json.dumps({"n": number}))
        clock.advance(0.25 * (number % 3))
    page = write(stub.timeline)
    lanes = [float(x) for x in re.findall(r'class="away" d="M([\d.]+)', page)]
    rows = [float(y) for y in re.findall(r'class="hit" x="0" y="([\d.]+)"', page)]
    assert len(lanes) == clients
    assert min(right - left for left, right in pairwise(lanes)) >= 120
    assert min(lower - upper for upper, lower in pairwise(rows)) >= 24
    assert len(page) < 1_000_000


FAILING = """
from pytest_channelstub import assert_sent, channel

def test_assertion(channel_stub):
    channel.send_message("alice", "hello")
    assert_sent(channel_stub, "alice", "bye"), "and more"

def test_wait(channel_stub):
    channel.send_message("alice", "hello")
    channel_stub.wait_for("connect", "alice", timeout=0)
"""


def reason_of_failure(html):
    pattern = r"<summary>Why it failed</summary><pre[^>]*>(.*?)</pre>"
    [reason] = re.findall(pattern, html, re.DOTALL)
    return unescape(reason)


@pytest.mark.parametrize(
    ("test", "shown"),
    [
        ("test_assertion", "'bye' was not sent to alice: "),
        ("test_wait", "no 'connect' event of alice within 0 s"),
    ],
)
def test_the_reason_of_a_failure_is_shown_without_a_second_timeline(pytester, test, shown):
    path = pytester.makepyfile(FAILING)
    pytester.runpytest(f"{path}::{test}", "--channelstub-timeline=out").assert_outcomes(failed=1)
    [page] = (pytester.path / "out").glob("*test-*.html")
    reason = reason_of_failure(page.read_text("utf-8"))
    assert shown in reason
    assert not re.search(r"timeline:|\+0\.0 s +drop", reason)


def test_the_reason_of_any_other_failure_is_shown_whole(stub, write):
    failure = "ValueError: timeline:\n+1 is no time\n  (nor is this)"
    assert reason_of_failure(write(stub.timeline, outcome="failed", failure=failure)) == failure


def test_a_screen_reader_has_a_summary_of_the_picture_and_all_events_as_a_list(stub, write):
    stub.connect_channel(channel.create_channel("alice"))
    channel.send_message("alice", "hello")
    channel.send_message("bob", "hello")
    page = write(stub.timeline)
    assert re.findall(r'<svg [^>]*role="img" aria-label="([^"]+)">', page) == [
        "Timeline as a picture: 5 events, 1 sent, 1 dropped. The same follows as text."
    ]
    assert len(listed_events(page)) == 5
    for mark in re.findall(r"<svg [^>]+>", page):
        assert 'role="img"' in mark or 'aria-hidden="true"' in mark


def test_several_stubs_are_drawn_one_below_the_other(write):
    with ChannelServiceStub() as one, ChannelServiceStub() as other:
        channel.send_message("alice", "hello")
    page = write(one.timeline, other.timeline)
    assert re.findall("<h2>(.*?)</h2>", page) == ["Stub 1", "Stub 2"]


def test_a_stub_without_events_has_a_page(stub, write):
    assert "0 events" in check(write(stub.timeline))


# As st.text(), which takes two seconds of a first run to find out which characters UTF-8 has.
text = functools.partial(st.text, st.characters(exclude_categories=["Cs"]))
texts = st.none() | text(max_size=12)
outcomes = text(max_size=8) | st.integers(0, 10**10)
timeline_rows = st.builds(
    Row,
    at=st.integers(-(10**9), 10**18),
    kind=st.sampled_from(KINDS),
    client_id=texts,
    token=texts,
    message=texts,
    outcome=outcomes,
    source=st.none(),
    answer=st.none(),
).map(lambda row: row._replace(outcome=7) if row.kind == "create" else row)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(timeline_rows, max_size=30), st.integers(0, 30))
def test_any_timeline_makes_a_sound_page(write, history, first):
    timeline = Timeline(0.0)
    timeline._rows.extend(history)
    check(write(timeline, first=first % (len(history) + 1)))


def test_a_connection_that_ended_before_the_first_event_shown_has_no_band(stub, write):
    page = ChannelClient(stub, channel.create_channel("alice"))
    page.close()
    first = len(stub.timeline)
    channel.send_message("alice", "late")

    assert 'class="connection' not in check(write(stub.timeline, first=first))


def test_a_token_ends_where_it_expires_also_on_a_clock_that_went_back(stub):
    stub.clock.advance(hours=1)
    channel.create_channel("alice", 1)
    stub.clock.move_to(stub.clock.start)
    channel.send_message("alice", "before")
    stub.clock.advance(hours=2)
    channel.send_message("alice", "after")
    chart = Layout(stub.timeline, 0)
    [token] = chart.lanes["alice"].tokens
    create, before, after = (row.y for row in chart.rows)
    assert create < before < token.bottom < after
