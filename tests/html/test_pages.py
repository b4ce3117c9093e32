"""The pages of --channelstub-timeline."""

from __future__ import annotations

import json
import re
import string
from html import unescape
from html.parser import HTMLParser
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_channelstub import ChannelServiceStub, FakeClock, InvalidTokenError, TokenTimedOutError, apiproxy_errors, channel
from pytest_channelstub._html import page as timeline_page
from pytest_channelstub._service.delivery import ChannelAppWarning
from pytest_channelstub._html.layout import layout
from pytest_channelstub._record.history import replay
from pytest_channelstub._record.timeline import KINDS, Timeline

SUITE = """
import pytest
from pytest_channelstub import channel

def test_passes(channel_stub):
    channel.send_message("alice", "hello")

def test_fails(channel_stub):
    channel.send_message("<script>alert(1)</script>", "</title><script>alert(1)</script>")
    assert False, "<script>alert(1)</script>"

@pytest.mark.parametrize("name", ["a/b", "<b>", "x" * 300, "\\x00"])
def test_names(channel_stub, name): ...

def test_uses_no_stub(): ...

def test_skips(channel_stub):
    pytest.skip("later")
"""


class Checker(HTMLParser):
    """Collects what a page would load or run, and checks that its elements are balanced."""

    VOID = ("meta", "br", "link", "img", "input")

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


def checked(html):
    checker = Checker()
    checker.feed(html)
    checker.close()
    assert checker.open == []
    assert checker.suspicious == []
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]", html)
    assert "url(" not in html.replace("url(#tip)", "").replace("url(#tip-soft)", "")
    assert "@import" not in html
    return checker


EVENT = re.compile(r'<g class="e k-(\w+)"><title>(.*?)</title>(.*?)</g>', re.DOTALL)


def drawn(html):
    """Each event of a page's picture: its kind, what it says when pointed at, and its words."""
    return [
        (kind, unescape(title), " ".join(map(unescape, re.findall(r">([^<]+)</text>", marks))))
        for kind, title, marks in EVENT.findall(html)
    ]


@pytest.mark.parametrize("workers", [(), ("-p", "xdist", "-n", "2")], ids=["alone", "xdist"])
def test_each_test_that_used_a_stub_has_a_page_and_the_index_leads_there(pytester, workers):
    pytester.makepyfile(SUITE)
    result = pytester.runpytest("--channelstub-timeline=out/pages", *workers)
    result.assert_outcomes(passed=6, failed=1, skipped=1)

    pages = {path.name: path.read_text("utf-8") for path in (pytester.path / "out/pages").iterdir()}
    index = pages.pop("index.html")
    links = re.findall(r'<a href="([^"]+)"', index)
    assert sorted(links) == sorted(pages)
    assert len(pages) == 7
    assert "test_fails" in links[0].replace("-", "_")
    for page in (index, *pages.values()):
        checked(page)
    assert "hello" in next(page for name, page in pages.items() if "test-passes" in name)
    result.stdout.fnmatch_lines(["channelstub: 7 timelines in *index.html"])


def test_without_the_option_nothing_is_written(pytester):
    pytester.makepyfile(SUITE)
    before = set(pytester.path.rglob("*.html"))
    result = pytester.runpytest()
    assert set(pytester.path.rglob("*.html")) == before
    result.stdout.no_fnmatch_line("*timelines in*")


def test_a_file_is_no_place_for_pages(pytester):
    pytester.makefile(".txt", taken="")
    result = pytester.runpytest("--channelstub-timeline=taken.txt")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: --channelstub-timeline: *taken.txt is a file: name a*"])


@pytest.mark.parametrize("wanted", ["taken.txt/pages", "p" * 300], ids=["below a file", "too long"])
def test_a_directory_that_cannot_be_made_ends_the_run_before_it_begins(pytester, wanted):
    pytester.makefile(".txt", taken="")
    pytester.makepyfile(SUITE)
    result = pytester.runpytest(f"--channelstub-timeline={wanted}")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    told = f"*{wanted[-5:]} cannot be written to: *: name another directory"
    result.stderr.fnmatch_lines([f"ERROR: --channelstub-timeline: {told}"])


def test_no_name_is_not_the_current_directory(pytester):
    result = pytester.runpytest("--channelstub-timeline=")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: --channelstub-timeline is empty: name a directory, new*"])


def test_one_page_is_one_timeline_of_one_test(pytester):
    pytester.makepyfile("def test_it(channel_stub): pass")
    result = pytester.runpytest("--channelstub-timeline=out")
    result.stdout.fnmatch_lines(["channelstub: 1 timeline in *index.html"])
    assert "<h1>1 test</h1>" in (pytester.path / "out/index.html").read_text("utf-8")


def test_every_message_and_client_is_there_and_what_is_hostile_is_only_text():
    clock = FakeClock()
    hostile = [
        "<script>alert(1)</script>",
        "\x1b[31mred",
        "a\x00b",
        "'\"><img src=x onerror=alert(1)>",
    ]
    with ChannelServiceStub(time_func=clock.time) as stub:
        for client_id in ("alice", *hostile):
            stub.connect_channel(channel.create_channel(client_id))
            for message in (*hostile, "x" * 32_767):
                channel.send_message(client_id, message)
    html = timeline_page.page("t.py::test", "failed", [(stub.timeline, 0)], "\x1b[31m<script>")
    told = "".join(checked(html).texts)
    for shown in ("<script>alert(1)</script>", r"\x1b[31mred", r"a\x00b", "(32,767 characters)"):
        assert shown in told


def test_each_event_says_what_it_is_beside_its_lane():
    clock = FakeClock()
    with ChannelServiceStub(time_func=clock.time) as stub:
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
    told = [
        (kind, words)
        for kind, _, words in drawn(timeline_page.page("t", "passed", [(stub.timeline, 0)]))
    ]
    assert told == [
        ("create", "token"),
        ("connect", "connected"),
        ("refresh", "refreshed"),
        ("poll", "empty poll \u00d73"),
        ("send", "one"),
        ("read", "read one"),
        ("send", "two"),
        ("send", "three"),
        ("clear", "cleared: 2 messages"),
        ("send", "four"),
        ("timeout", "timed out, 1 unread"),
        ("drop", "five dropped"),
        ("connect", "connected"),
        ("disconnect", "disconnected by hand"),
        ("connect", "connected"),
        ("send", "six"),
        ("reset", "reset: queues, 1 lost"),
        ("close", "closed"),
        ("reject", "refused, expired token"),
        ("reject", "reject: invalid"),
    ]


def test_an_event_that_is_pointed_at_tells_what_came_of_it():
    clock = FakeClock()
    with ChannelServiceStub(time_func=clock.time) as stub:
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
        page = timeline_page.page("t", "passed", [(stub.timeline, 0)])
    titles = [title for kind, title, _ in drawn(page) if kind in ("poll", "send")]
    assert titles == [
        "3 times, from here on: +0.0 s  poll  alice",
        "+0.0 s  send  alice  'one'\nread at +1.0 s",
        "+1.0 s  send  alice  'two'\nlost unread: timeout at +3.0 s",
        "+3.0 s  send  alice  'three'\ntaken out of the list by hand",
        "+3.0 s  send  alice  'four'\nstill waiting at the end",
    ]


def test_a_call_that_failed_and_a_request_to_the_app_stand_beside_the_app():
    def app(environ, start_response):
        start_response("500 Broken" if "disconnected" in environ["PATH_INFO"] else "200 OK", [])
        return []

    with ChannelServiceStub(time_func=FakeClock().time) as stub:
        stub.app = app
        stub.connect_channel(channel.create_channel("alice"))
        with pytest.warns(ChannelAppWarning, match="500 Broken"):
            stub.disconnect("alice")
        stub.SetError(apiproxy_errors.OverQuotaError())
        with pytest.raises(apiproxy_errors.OverQuotaError):
            channel.send_message("alice", "a message of many words")
        with pytest.raises(apiproxy_errors.OverQuotaError):
            channel.create_channel("alice")
        page = timeline_page.page("t", "passed", [(stub.timeline, 0)])
    assert [(kind, words) for kind, _, words in drawn(page) if kind in ("request", "error")] == [
        ("request", "connected: 200 OK"),
        ("request", "disconnected: 500 Broken"),
        ("error", "SendChannelMessage: OverQuotaError a message of many w\u2026"),
        ("error", "CreateChannel: OverQuotaError"),
    ]
    assert page.count('<text class="word on bad" ') == 1  # the 500


def test_words_beside_narrow_lanes_are_shortened():
    clock = FakeClock()
    with ChannelServiceStub(time_func=clock.time) as stub:
        for number in range(12):
            stub.connect_channel(channel.create_channel(f"client-{number}"))
        channel.send_message("client-0", "a message of many words")
        stub.disconnect_channel_event("client-1")
        clock.advance(2)
        page = timeline_page.page("t", "passed", [(stub.timeline, 0)])
    ends = [words for kind, _, words in drawn(page) if kind in ("disconnect", "timeout")]
    assert ends[:2] == ["disconnected\u2026", "timed out"]
    assert "timed out, 1 unread" not in page


def test_idle_time_is_left_out_with_a_mark():
    clock = FakeClock()
    with ChannelServiceStub(time_func=clock.time) as stub:
        channel.send_message("alice", "one")
        clock.advance(hours=2)
        channel.send_message("alice", "two")
        clock.move_to(clock.start)
        channel.send_message("alice", "three")
    chart = layout(replay(stub.timeline), stub.timeline.start)
    assert [one.seconds for one in chart.breaks] == [7200, -7200]
    assert [row.y for row in chart.rows] == sorted(row.y for row in chart.rows)
    html = timeline_page.page("t.py::test", "passed", [(stub.timeline, 0)])
    assert "2 h 0 min 0 s later" in html
    assert "2 h 0 min 0 s back" in html


def test_a_token_ends_where_its_time_is_over_and_a_band_where_its_connection_is():
    clock = FakeClock()
    with ChannelServiceStub(time_func=clock.time) as stub:
        stub.connect_channel(channel.create_channel("alice", duration_minutes=1))
        clock.advance(minutes=5)
        channel.send_message("alice", "late")
        channel.create_channel("alice")
    chart = layout(replay(stub.timeline), stub.timeline.start)
    lane = chart.lanes["alice"]
    at = {row.event.kind: row.y for row in chart.rows}
    ended, open_ended = lane.tokens
    assert ended.expired
    assert at["timeout"] < ended.bottom < at["drop"]
    assert not open_ended.expired
    assert open_ended.bottom == chart.height
    [band] = lane.bands
    assert (band.end, band.bottom) == ("timeout", at["timeout"])


def test_what_was_before_the_test_is_carried_in():
    clock = FakeClock()
    with ChannelServiceStub(time_func=clock.time) as stub:
        stub.connect_channel(channel.create_channel("alice"))
        channel.send_message("alice", "before")
        first = len(stub.timeline)
        channel.send_message("alice", "after")
    chart = layout(replay(stub.timeline), stub.timeline.start, first)
    assert [row.event.message for row in chart.rows] == ["after"]
    [band] = chart.lanes["alice"].bands
    assert band.steps[0][0] == 0
    assert band.steps[-1][1] == 2


def test_a_token_whose_time_was_over_before_the_test_is_not_drawn():
    clock = FakeClock()
    with ChannelServiceStub(time_func=clock.time) as stub:
        channel.create_channel("alice", duration_minutes=1)
        channel.create_channel("alice", duration_minutes=10)
        clock.advance(minutes=5)
        first = len(stub.timeline)
        channel.send_message("alice", "hello")
        clock.advance(minutes=10)
        channel.send_message("alice", "hello")
    titles = re.findall(
        r'<g class="token"><title>[^<]*\n([^<]*)</title>',
        timeline_page.page("t::t", "passed", [(stub.timeline, first)]),
    )
    assert titles == ["made at +0.0 s, valid until +10 min 1 s"]


def test_polls_that_find_nothing_share_a_row():
    clock = FakeClock()
    with ChannelServiceStub(time_func=clock.time) as stub:
        token = channel.create_channel("alice")
        for _ in range(100):
            stub.connect_and_pop_first_message(token)
            clock.advance(0.1)
    chart = layout(replay(stub.timeline), stub.timeline.start)
    assert [(row.event.kind, row.count) for row in chart.rows][:3] == [
        ("create", 1),
        ("connect", 1),
        ("poll", 100),
    ]


@pytest.mark.parametrize(("clients", "events"), [(3, 40), (40, 2000)])
def test_no_two_lanes_or_rows_touch(clients, events):
    clock = FakeClock()
    with ChannelServiceStub(time_func=clock.time) as stub:
        number = 0
        while len(stub.timeline) < events:
            channel.send_message(f"client-{number % clients}", json.dumps({"n": number}))
            clock.advance(0.25 * (number % 3))
            number += 1
    chart = layout(replay(stub.timeline), stub.timeline.start)
    xs = [lane.x for lane in chart.lanes.values()]
    ys = [row.y for row in chart.rows]
    assert len(xs) == clients
    assert min(right - left for left, right in pairwise(xs)) >= 120
    assert min(lower - upper for upper, lower in pairwise(ys)) >= 24
    assert len(timeline_page.page("t", "passed", [(stub.timeline, 0)])) < 1_500_000


def test_file_names_are_safe_and_differ():
    names = [
        timeline_page.file_name(nodeid)
        for nodeid in (
            "a/b.py::c",
            "a_b.py::c",
            "../../etc/passwd",
            "x" * 5000,
            "\ud800",
            "",
            "\x00",
        )
    ]
    assert len(set(names)) == len(names)
    allowed = set(string.ascii_letters + string.digits + "-.")
    for name in names:
        assert set(name) <= allowed
        assert len(name) < 110


kinds = st.sampled_from(KINDS)
texts = st.none() | st.text(max_size=12)
rows = st.tuples(
    st.floats(-1e3, 1e12), kinds, texts, texts, texts, st.text(max_size=8) | st.integers(0, 10**10)
).map(lambda row: (*row[:5], 7) if row[1] == "create" else row)


@settings(deadline=None, max_examples=50)
@given(st.lists(rows, max_size=30), st.integers(0, 30))
def test_any_timeline_whatever_makes_a_sound_page(history, first):
    timeline = Timeline(0.0)
    for row in history:
        timeline.record(row)
    checked(timeline_page.page("t::t", "passed", [(timeline, first % (len(history) + 1))]))
