"""The page's script in a real Chromium, against a live server, on the test's clock."""

from __future__ import annotations

import contextlib
import socket

import pytest

from pytest_channelstub import channel
from pytest_channelstub.web import ChannelServer

pytestmark = pytest.mark.browser
PAGE = """<!DOCTYPE html>
<meta charset="utf-8">
<script>
  var goog = { kept: true };
</script>
<script src="/_ah/channel/jsapi"></script>
<script>
  let log = [];
  const handlers = {
    onopen() { log.push(["open"]); },
    onmessage(message) { log.push(["message", message.data]); },
    onerror(error) { log.push(["error", error.code, error.description]); },
    onclose() { log.push(["close"]); },
  };
  function listen(token, handler = handlers) {
    return (window.socket = new goog.appengine.Channel(token).open(handler));
  }
</script>
"""

EXPIRED = ["error", 401, "Token+timed+out."]
INVALID = ["error", 401, "Invalid+token."]


def app(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/html; charset=utf-8")])
    return [PAGE.encode() if environ["REQUEST_METHOD"] == "GET" else b""]


@pytest.fixture(scope="session")
def channel_app():
    return app


class Tab:
    """A tab with the page above open."""

    def __init__(self, page, url):
        self.page = page
        self.errors = []
        self.page.on("pageerror", lambda error: self.errors.append(error.message))
        self.page.goto(url)

    def listen(self, token, handler="handlers"):
        self.page.evaluate(f"token => {{ listen(token, {handler}) }}", token)
        return self

    def run(self, script):
        # In an array: a bare function Playwright would call.
        return self.page.evaluate(f"() => [{script}]")[0]

    def until(self, condition):
        self.page.wait_for_function(condition, timeout=10_000)

    def until_logged(self, count):
        self.until(f"log.length >= {count}")
        return self.log

    @property
    def log(self):
        return self.page.evaluate("log")

    @property
    def messages(self):
        return [entry[1] for entry in self.log if entry and entry[0] == "message"]


def until_it_polls_again(stub, client_id, reads):
    """Wait until a page has read so many messages, and dealt with the last."""
    stub.wait_for("read", client_id, count=reads)
    while stub.timeline.of(client_id)[-1].kind != "poll":
        polls = stub.timeline.of(client_id, kind="poll")
        stub.wait_for("poll", client_id, count=len(polls) + 1)


@pytest.fixture(scope="module")
def context(browser):
    with contextlib.closing(browser.new_context()) as context:
        yield context


@pytest.fixture
def new_tab(context, channel_server):
    """A function: another tab, of the same browser unless another context is given.

    One page is left for the next test, blank: to open one takes longer than most tests.
    """
    blank = [*context.pages]

    def new_tab(context=context, server=channel_server):
        page = blank.pop() if blank and context is blank[0].context else context.new_page()
        return Tab(page, server.url_for("/"))

    yield new_tab
    for page in context.pages[1:]:
        page.close()
    for page in context.pages:
        page.unroute_all()
        page.goto("about:blank")
    context.clear_cookies()


@pytest.fixture
def tab(new_tab):
    return new_tab()


@pytest.fixture
def alice(tab, channel_stub):
    """Alice's tab, open and polling."""
    tab.listen(channel.create_channel("alice"))
    channel_stub.wait_for("poll", "alice")
    return tab


def test_a_page_opens_and_the_app_is_told(tab, channel_stub):
    tab.listen(channel.create_channel("alice"))
    assert tab.run("socket.readyState") in (0, 1)
    assert tab.until_logged(1) == [["open"]]
    assert tab.run("socket.readyState") == 1
    assert channel_stub.connected_client_ids == ("alice",)
    assert [request.url for request in channel_stub.requests] == ["/_ah/channel/connected/"]


def test_the_constants_and_classes_are_where_pages_look_for_them(tab):
    assert tab.run("goog.appengine.Socket.ReadyState") == {
        "CONNECTING": 0,
        "OPEN": 1,
        "CLOSING": 2,
        "CLOSED": 3,
    }
    assert tab.run("goog.appengine.Socket.POLLING_TIMEOUT_MS") == 500
    assert tab.run("listen('x') instanceof goog.appengine.Socket")


def test_an_existing_goog_stays_and_so_does_what_the_page_has_set(tab):
    tab.run("goog.appengine.Socket.POLLING_TIMEOUT_MS = 7")
    tab.page.add_script_tag(url="/_ah/channel/jsapi")
    assert tab.run("[goog.kept, goog.appengine.Socket.POLLING_TIMEOUT_MS]") == [True, 7]


def test_200_messages_arrive_in_order(alice):
    messages = [f"message {number}" for number in range(200)]
    for message in messages:
        channel.send_message("alice", message)
    alice.until_logged(201)
    assert alice.messages == messages


@pytest.mark.parametrize(
    "message",
    [
        "grüß 猫 \U0001f600 \u2028 \u2029",
        """quotes ' " ` and \\ backslashes \\n""",
        "</script><script>alert(1)</script><!--",
        '{"json": [1, null, "\\u0000"]}',
        "\ufeffa byte order mark",
        "lines\r\nof\nall\rsorts",
        " ",
        "0",
        "x" * 32_767,
    ],
    ids=lambda message: message[:12].encode("unicode_escape").decode(),
)
def test_any_text_arrives_as_it_was_sent(alice, message):
    channel.send_message("alice", message)
    assert alice.until_logged(2) == [["open"], ["message", message]]


@pytest.mark.parametrize("client_id", ["a&b=c", "a+b", "a%20b/c", "a b", "猫 é"])
def test_client_ids_of_all_sorts_work(tab, channel_stub, client_id):
    tab.listen(channel.create_channel(client_id))
    channel_stub.wait_for("poll", client_id)
    channel.send_message(client_id, "hello")
    assert tab.until_logged(2) == [["open"], ["message", "hello"]]


def test_a_bad_token_is_an_error_then_a_close(tab):
    tab.listen("nonsense")
    assert tab.until_logged(2) == [INVALID, ["close"]]
    assert tab.run("socket.readyState") == 3


def test_a_token_that_has_expired_is_an_error_then_a_close(tab, channel_clock):
    token = channel.create_channel("alice", duration_minutes=1)
    channel_clock.advance(minutes=2)
    tab.listen(token)
    assert tab.until_logged(2) == [EXPIRED, ["close"]]


def test_a_token_that_expires_later_is_an_error_then_a_close(alice, channel_clock, channel_stub):
    channel_clock.advance(hours=2)
    assert channel_stub.is_connected("alice")
    channel_clock.advance(1)
    assert alice.until_logged(3) == [["open"], EXPIRED, ["close"]]
    channel_clock.advance(2)
    assert channel_stub.requests[-1].url == "/_ah/channel/disconnected/"


def test_the_tests_clock_alone_decides_whether_a_page_stays(alice, channel_clock, channel_stub):
    for number in range(20):
        channel.send_message("alice", str(number))
        channel_clock.advance(minutes=5)  # the page has the message, or is about to ask again
    alice.until_logged(21)
    assert alice.messages == [str(number) for number in range(20)]
    assert [event.kind for event in channel_stub.timeline if event.kind == "connect"] == ["connect"]


def test_a_page_that_has_only_just_opened_survives_an_advance(tab, channel_clock, channel_stub):
    tab.listen(channel.create_channel("alice"))
    channel_stub.wait_for("connect", "alice")
    channel_clock.advance(minutes=5)
    assert channel_stub.is_connected("alice")
    channel.send_message("alice", "hello")
    assert tab.until_logged(2) == [["open"], ["message", "hello"]]


@pytest.mark.channel_stub(clock="freeze")
def test_a_page_lives_while_freezegun_holds_the_process(alice, channel_clock):
    channel.send_message("alice", "hello")
    assert alice.until_logged(2)[1:] == [["message", "hello"]]
    channel_clock.advance(hours=3)
    assert alice.until_logged(4)[2:] == [EXPIRED, ["close"]]


def test_close_tells_the_app_and_the_page_and_nothing_comes_after(alice, channel_stub):
    alice.run("socket.close()")
    assert channel_stub.wait_for("close", "alice")
    assert alice.until_logged(2) == [["open"], ["close"]]
    assert alice.run("socket.readyState") == 3
    assert not channel_stub.is_connected("alice")
    alice.run("socket.close()")
    channel.send_message("alice", "too late")
    assert alice.log == [["open"], ["close"]]


def test_close_in_a_handler_stops_the_messages(tab, channel_stub):
    tab.page.evaluate("""() => {
        handlers.onmessage = (message) => {
            log.push(["message", message.data]);
            socket.close();
            log.push([socket.readyState]);
        };
    }""")
    tab.listen(channel.create_channel("alice"))
    channel_stub.wait_for("poll", "alice")
    for message in ("one", "two", "three"):
        channel.send_message("alice", message)
    assert tab.until_logged(4) == [["open"], ["message", "one"], [2], ["close"]]


def test_close_before_the_page_is_open_leaves_nobody_connected(tab, channel_stub):
    tab.page.evaluate("token => listen(token).close()", channel.create_channel("alice"))
    assert tab.until_logged(1) == [["close"]]
    assert not channel_stub.is_connected("alice")


@pytest.mark.parametrize("leave", ["goto", "close", "reload"])
def test_leaving_the_page_disconnects(alice, channel_stub, channel_server, leave):
    arguments = [channel_server.url_for("/elsewhere")] if leave == "goto" else []
    getattr(alice.page, leave)(*arguments)
    channel_stub.wait_for("close", "alice")
    assert not channel_stub.is_connected("alice")


def test_a_page_that_crashes_times_out_two_seconds_later(alice, channel_stub, channel_clock):
    with contextlib.suppress(Exception):  # Playwright says that the page has crashed
        alice.page.goto("chrome://crash", timeout=2000)
    for _ in range(200):
        channel_clock.advance(2)
        with contextlib.suppress(AssertionError):
            channel_stub.wait_for("timeout", "alice", timeout=0.05)
            break
    assert not channel_stub.is_connected("alice")
    alice.page.close()


def test_handlers_can_be_assigned_afterwards_and_again(tab, channel_stub):
    tab.listen(channel.create_channel("alice"), handler="undefined")
    tab.run("(socket.onopen = handlers.onopen, socket.onmessage = handlers.onmessage)")
    channel_stub.wait_for("poll", "alice")
    channel.send_message("alice", "one")
    tab.until_logged(2)
    tab.run("socket.onmessage = (message) => log.push(['second', message.data])")
    channel.send_message("alice", "two")
    tab.until_logged(3)
    tab.run("socket.onmessage = null")
    channel.send_message("alice", "three")
    until_it_polls_again(channel_stub, "alice", reads=3)
    tab.run("socket.onmessage = handlers.onmessage")
    channel.send_message("alice", "four")
    expected = [["open"], ["message", "one"], ["second", "two"], ["message", "four"]]
    assert tab.until_logged(4)[-1] == expected[-1]
    assert tab.log == expected


def test_an_exception_in_a_handler_is_reported_and_stops_nothing(tab, channel_stub):
    tab.page.evaluate("""() => {
        handlers.onopen = () => { throw new Error("in onopen"); };
        const { onmessage } = handlers;
        handlers.onmessage = (message) => { onmessage(message); throw new Error(message.data); };
    }""")
    tab.listen(channel.create_channel("alice"))
    channel_stub.wait_for("poll", "alice")
    channel.send_message("alice", "one")
    channel.send_message("alice", "two")
    tab.until_logged(2)
    assert tab.messages == ["one", "two"]
    assert tab.errors == ["in onopen", "one", "two"]


def test_two_tabs_of_one_client_share_its_messages(new_tab, channel_stub):
    token = channel.create_channel("alice")
    tabs = [new_tab(), new_tab()]
    tabs[0].run("(all = log, new BroadcastChannel('all').onmessage = () => all.push(0))")
    tabs[1].page.evaluate("""() => {
        const all = new BroadcastChannel("all");
        handlers.onmessage = (message) => {
            log.push(["message", message.data]);
            all.postMessage(0);
        };
    }""")
    for tab in tabs:
        tab.listen(token)
    channel_stub.wait_for("poll", "alice", count=2)
    messages = [f"message {number}" for number in range(50)]
    for message in messages:
        channel.send_message("alice", message)
    tabs[0].until("all.length === 51")
    assert sorted(tabs[0].messages + tabs[1].messages) == sorted(messages)


def test_a_tab_that_is_closed_leaves_its_sister_connected(new_tab, channel_stub):
    token = channel.create_channel("alice")
    first, second = new_tab().listen(token), new_tab().listen(token)
    channel_stub.wait_for("poll", "alice", count=2)
    first.run("socket.close()")
    first.until("socket.readyState === 3")
    channel.send_message("alice", "for the second")
    assert second.until_logged(2) == [["open"], ["message", "for the second"]]
    assert [event.kind for event in channel_stub.timeline].count("connect") == 1


def test_a_page_can_reconnect_with_a_new_token_in_onclose(tab, channel_stub, channel_clock):
    first = channel.create_channel("alice", duration_minutes=1)
    second = channel.create_channel("alice", duration_minutes=100)
    tab.page.evaluate(
        "token => handlers.onclose = () => { log.push(['close']); "
        "handlers.onclose = () => {}; listen(token); }",
        second,
    )
    tab.listen(first)
    channel_stub.wait_for("poll", "alice")
    channel_clock.advance(minutes=2)
    tab.until_logged(4)
    channel.send_message("alice", "hello again")
    assert tab.until_logged(5) == [
        ["open"],
        EXPIRED,
        ["close"],
        ["open"],
        ["message", "hello again"],
    ]


def test_a_client_that_the_test_disconnects_connects_again(alice, channel_stub):
    channel_stub.disconnect_channel_event("alice")
    channel_stub.wait_for("connect", "alice", count=2)
    channel.send_message("alice", "welcome back")
    assert alice.until_logged(2) == [["open"], ["message", "welcome back"]]


def test_a_server_that_comes_back_is_found_again(new_tab, channel_stub, free_port):
    with ChannelServer(channel_stub, app, port=free_port) as server:
        tab = new_tab(server=server)
        tab.listen(channel.create_channel("alice"))
        channel_stub.wait_for("poll", "alice")
    channel.send_message("alice", "while you were away")
    with ChannelServer(channel_stub, app, port=free_port):
        assert tab.until_logged(2) == [["open"], ["message", "while you were away"]]


def test_a_server_that_stays_away_is_an_error_then_a_close(new_tab, channel_stub):
    with ChannelServer(channel_stub, app) as server:
        tab = new_tab(server=server)
        tab.run("goog.appengine.Socket.RETRY_DELAYS_MS = [1, 1]")
        tab.run("goog.appengine.Socket.POLLING_TIMEOUT_MS = 1")
        tab.listen(channel.create_channel("alice"))
        channel_stub.wait_for("poll", "alice")
    opened, (kind, code, description), closed = tab.until_logged(3)
    assert (opened, kind, code, closed) == (["open"], "error", 0, ["close"])
    assert description


def test_a_server_that_was_never_there_is_an_error_then_a_close(tab):
    with contextlib.closing(socket.create_server(("127.0.0.1", 0))) as server:
        port = server.getsockname()[1]
    tab.page.route("**/_ah/channel/dev**", lambda route: route.abort())
    tab.run("goog.appengine.Socket.RETRY_DELAYS_MS = [1, 1]")
    tab.listen(channel.create_channel(f"client {port}"))
    (kind, code, _), closed = tab.until_logged(2)
    assert (kind, code, closed) == ("error", 0, ["close"])


def test_seven_tabs_of_one_browser_all_get_their_messages(new_tab, channel_stub):
    names = [f"tab {number}" for number in range(7)]
    tabs = [new_tab().listen(channel.create_channel(name)) for name in names]
    for name in names:
        channel_stub.wait_for("poll", name)
    for round_ in ("one", "two"):
        for name in names:
            channel.send_message(name, f"{round_} for {name}")
    for tab, name in zip(tabs, names, strict=True):
        tab.until_logged(3)
        assert tab.messages == [f"one for {name}", f"two for {name}"]


def test_a_page_that_puts_a_double_in_place_of_fetch_still_listens(tab, channel_stub):
    tab.run("window.fetch = () => { throw new Error('a double'); }")
    tab.listen(channel.create_channel("alice"))
    channel_stub.wait_for("poll", "alice")
    channel.send_message("alice", "hello")
    assert tab.until_logged(2) == [["open"], ["message", "hello"]]


def test_a_page_whose_own_clock_stands_still_gets_its_messages(new_tab, browser, channel_stub):
    with contextlib.closing(browser.new_context()) as context:
        context.clock.install(time=0)
        context.clock.pause_at(1)
        tab = new_tab(context)
        tab.listen(channel.create_channel("alice"))
        channel_stub.wait_for("poll", "alice")
        for number in range(5):
            channel.send_message("alice", str(number))
        until_it_polls_again(channel_stub, "alice", reads=5)
        assert tab.messages == ["0", "1", "2", "3", "4"]
