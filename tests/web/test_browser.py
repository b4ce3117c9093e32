"""The page's script in real browsers, against a live server, on the test's clock."""

from __future__ import annotations

import contextlib
import threading
from urllib.parse import parse_qs

import pytest
from werkzeug.serving import make_server

from pytest_channelstub import channel
from pytest_channelstub.web import ChannelServer

pytestmark = pytest.mark.browser
PAGE = """<!DOCTYPE html>
<meta charset="utf-8">
<script>
  var goog = { kept: true };
  let log = [];
  let errors = [];
  addEventListener("error", (event) => errors.push(event.message.replace("Uncaught ", "")));
</script>
%s
<script src="%s/_ah/channel/jsapi"></script>
<script>
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
SCRIPTS = {
    # What a test does that moves the time of the page itself.
    "/stopped-clock": "Date.now = () => 0; window.setTimeout = window.setInterval = () => 0;",
    # A page of another machine's address, without https.
    "/without-locks": "delete Navigator.prototype.locks;",
}

EXPIRED = ["error", 401, "Token+timed+out."]
INVALID = ["error", 401, "Invalid+token."]


def app(environ, start_response):
    """Serve the page; send back what a page sends."""
    start_response("200 OK", [("Content-Type", "text/html; charset=utf-8")])
    if environ["PATH_INFO"] == "/_ah/channel/receive":
        form = parse_qs(environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"])).decode())
        channel.send_message(form["key"][0], f"received {form['msg'][0]}")
    if environ["REQUEST_METHOD"] == "POST":
        return []
    before = f"<script>{SCRIPTS.get(environ['PATH_INFO'], '')}</script>"
    origin = parse_qs(environ["QUERY_STRING"]).get("script-of", [""])[0]
    return [(PAGE % (before, origin)).encode()]


@pytest.fixture(scope="session")
def channel_app():
    return app


def until_it_polls_again(stub, client_id, reads):
    """Wait until a page has read so many messages, and dealt with the last."""
    stub.wait_for("read", client_id, count=reads)
    while stub.timeline.of(client_id)[-1].kind != "poll":
        polls = stub.timeline.of(client_id, kind="poll")
        stub.wait_for("poll", client_id, count=len(polls) + 1)


@pytest.fixture
def alice(tab, channel_stub):
    """Alice's tab, open and polling."""
    tab.listen(channel.create_channel("alice"))
    channel_stub.wait_for("poll", "alice")
    return tab


def test_a_page_opens_and_the_app_hears_of_it(tab, channel_stub):
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
    assert tab.run("goog.appengine.Socket.BASE_URL") == "/_ah/channel/"
    assert tab.run("listen('x') instanceof goog.appengine.Socket")
    assert tab.run("document.querySelector('#wcs-iframe')") is None


def test_an_existing_goog_and_what_the_page_has_set_stay(tab):
    tab.run("goog.appengine.Socket.POLLING_TIMEOUT_MS = 7")
    tab.do("""
        const script = document.createElement("script");
        script.src = "/_ah/channel/jsapi";
        script.onload = () => log.push("loaded again");
        document.head.append(script);
    """)
    tab.until_logged(1)
    assert tab.run("[goog.kept, goog.appengine.Socket.POLLING_TIMEOUT_MS]") == [True, 7]


def test_60_messages_arrive_in_order(alice):
    messages = [f"message {number}" for number in range(60)]
    for message in messages:
        channel.send_message("alice", message)
    alice.until_logged(61)
    assert alice.messages == messages


TEXTS = [
    "grüß 猫 \U0001f600 \u2028 \u2029",
    """quotes ' " ` and \\ backslashes \\n""",
    "</script><script>alert(1)</script><!--",
    '{"json": [1, null, "\\u0000"]}',
    "\ufeffa byte order mark",
    "lines\r\nof\nall\rsorts",
    " ",
    "0",
    "x" * 32_767,
]


def test_any_text_arrives_as_it_was_sent(alice):
    for text in TEXTS:
        channel.send_message("alice", text)
    assert alice.until_logged(1 + len(TEXTS)) == [["open"], *(["message", text] for text in TEXTS)]


def test_client_ids_of_all_sorts_work(tab, channel_stub):
    for client_id in ("a&b=c", "a+b", "a%20b/c", "a b", "猫 é"):
        tab.listen(channel.create_channel(client_id))
        channel_stub.wait_for("poll", client_id)
        channel.send_message(client_id, "hello")
        tab.until_logged(2)
        tab.run("socket.close()")
        assert tab.until_logged(3) == [["open"], ["message", "hello"], ["close"]]
        tab.run("log.length = 0")


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


def test_close_reaches_the_app_and_the_page_and_ends_the_messages(alice, channel_stub):
    alice.run("socket.close()")
    assert channel_stub.wait_for("close", "alice")
    assert alice.until_logged(2) == [["open"], ["close"]]
    assert alice.run("socket.readyState") == 3
    assert not channel_stub.is_connected("alice")
    alice.run("socket.close()")
    channel.send_message("alice", "too late")
    assert alice.log == [["open"], ["close"]]


def test_close_in_a_handler_stops_the_messages(tab, channel_stub):
    tab.do("""
        handlers.onmessage = (message) => {
            log.push(["message", message.data]);
            socket.close();
            log.push([socket.readyState]);
        };
    """)
    tab.listen(channel.create_channel("alice"))
    channel_stub.wait_for("poll", "alice")
    for message in ("one", "two", "three"):
        channel.send_message("alice", message)
    assert tab.until_logged(4) == [["open"], ["message", "one"], [2], ["close"]]


def test_close_before_the_page_is_open_leaves_nobody_connected(tab, channel_stub):
    tab.do("listen(args[0]).close()", channel.create_channel("alice"))
    assert tab.until_logged(1) == [["close"]]
    assert not channel_stub.is_connected("alice")


@pytest.mark.parametrize("leave", ["goto", "close", "reload"])
def test_leaving_the_page_disconnects(request, alice, channel_stub, channel_server, leave):
    arguments = [channel_server.url_for("/elsewhere")] if leave == "goto" else []
    getattr(alice.window, leave)(*arguments)
    try:
        channel_stub.wait_for("close", "alice")
    except AssertionError:
        if leave != "close" or "firefox" not in request.node.name:
            raise
        # Of a hundred tabs that are closed, Firefox ends about three before their last request,
        # a fetch or a beacon, goes out. The client then times out: its poll has been cut off.
        channel_stub.clock.advance(2)
    assert not channel_stub.is_connected("alice")


def test_a_page_that_crashes_times_out_two_seconds_later(
    request, alice, channel_stub, channel_clock
):
    if "chromium" not in request.node.name:
        pytest.skip("Chromium alone has an address at which a page crashes")
    with contextlib.suppress(Exception):  # Playwright says that the page has crashed
        alice.window.page.goto("chrome://crash", timeout=2000)
    for _ in range(200):
        channel_clock.advance(2)
        with contextlib.suppress(AssertionError):
            channel_stub.wait_for("timeout", "alice", timeout=0.05)
            break
    assert not channel_stub.is_connected("alice")
    alice.window.close()


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
    tab.do("""
        handlers.onopen = () => { throw new Error("in onopen"); };
        const { onmessage } = handlers;
        handlers.onmessage = (message) => { onmessage(message); throw new Error(message.data); };
    """)
    tab.listen(channel.create_channel("alice"))
    channel_stub.wait_for("poll", "alice")
    channel.send_message("alice", "one")
    channel.send_message("alice", "two")
    tab.until_logged(2)
    assert tab.messages == ["one", "two"]
    assert tab.run("errors") == ["Error: in onopen", "Error: one", "Error: two"]


def test_two_tabs_of_one_client_share_its_messages(new_tab, channel_stub):
    token = channel.create_channel("alice")
    tabs = [new_tab(), new_tab()]
    tabs[0].run("(all = log, new BroadcastChannel('all').onmessage = () => all.push(0))")
    tabs[1].do("""
        const all = new BroadcastChannel("all");
        handlers.onmessage = (message) => {
            log.push(["message", message.data]);
            all.postMessage(0);
        };
    """)
    for tab in tabs:
        tab.listen(token)
    channel_stub.wait_for("poll", "alice", count=2)
    messages = [f"message {number}" for number in range(50)]
    for message in messages:
        channel.send_message("alice", message)
    tabs[0].until("all.length === 51")
    assert sorted(tabs[0].messages + tabs[1].messages) == sorted(messages)


def test_a_tab_that_closes_leaves_the_clients_other_tab_connected(new_tab, channel_stub):
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
    tab.do(
        "handlers.onclose = () => { log.push(['close']); "
        "handlers.onclose = () => {}; listen(args[0]); }",
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


def test_a_server_that_was_never_there_is_an_error_then_a_close(tab, free_port):
    tab.run(f"goog.appengine.Socket.BASE_URL = 'http://127.0.0.1:{free_port}/'")
    tab.run("goog.appengine.Socket.RETRY_DELAYS_MS = [1, 1]")
    tab.listen(channel.create_channel("alice"))
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


def test_a_page_whose_own_clock_stands_still_gets_its_messages(new_tab, channel_stub):
    tab = new_tab(path="/stopped-clock").listen(channel.create_channel("alice"))
    channel_stub.wait_for("poll", "alice")
    for number in range(5):
        channel.send_message("alice", str(number))
    until_it_polls_again(channel_stub, "alice", reads=5)
    assert tab.messages == ["0", "1", "2", "3", "4"]


def test_a_page_without_locks_polls_now_and_then(new_tab, channel_stub):
    tab = new_tab(path="/without-locks")
    assert tab.run("navigator.locks") is None
    tab.run("goog.appengine.Socket.POLLING_TIMEOUT_MS = 10")
    tab.listen(channel.create_channel("alice"))
    channel_stub.wait_for("poll", "alice", count=3)
    channel.send_message("alice", "hello")
    assert tab.until_logged(2) == [["open"], ["message", "hello"]]


def test_a_channel_may_be_made_without_new(tab, channel_stub):
    tab.do("goog.appengine.Channel(args[0]).open(handlers)", channel.create_channel("alice"))
    assert tab.until_logged(1) == [["open"]]
    tab.do("const { Channel } = goog.appengine; Channel(args[0]).open()", "nonsense")


def test_a_handler_object_may_be_made_and_filled(tab, channel_stub):
    tab.do(
        """
        const handler = new goog.appengine.Socket.Handler();
        for (const name of ["onopen", "onmessage", "onerror", "onclose"]) handler[name]();
        handler.onmessage = handlers.onmessage;
        listen(args[0], handler);
        """,
        channel.create_channel("alice"),
    )
    channel_stub.wait_for("poll", "alice")
    channel.send_message("alice", "hello")
    assert tab.until_logged(1) == [["message", "hello"]]


def test_opening_and_closing_pass_an_object(tab):
    tab.do("for (const name of ['onopen', 'onclose']) handlers[name] = (it) => log.push(it)")
    tab.listen(channel.create_channel("alice"))
    tab.until_logged(1)
    tab.run("socket.close()")
    assert tab.until_logged(2) == [{}, {}]


def test_what_a_page_sends_is_posted_to_the_app(alice):
    assert alice.run("socket.send('gr\u00fc\u00df & \u732b')") is True
    assert alice.until_logged(2) == [["open"], ["message", "received gr\u00fc\u00df & \u732b"]]
    alice.run("socket.close()")
    assert alice.run("socket.send('too late')") is False


def test_a_message_that_the_app_does_not_take_is_an_error_and_the_socket_stays_open(
    new_tab, channel_stub
):
    with ChannelServer(channel_stub) as server, ChannelServer(channel_stub, app) as pages:
        tab = new_tab(pages).listen(channel.create_channel("alice"))
        tab.until_logged(1)
        tab.run(f"goog.appengine.Socket.BASE_URL = '{server.url}/_ah/channel/'")
        assert tab.run("socket.send('hello')")
        opened, (kind, code, description) = tab.until_logged(2)
        assert (opened, kind, code, description) == (["open"], "error", 404, "Not Found")
        assert tab.run("socket.readyState") == 1


@pytest.fixture
def elsewhere():
    """A function that gives the URL of a page on another port, which is no channel's."""
    server = make_server("127.0.0.1", 0, app, threaded=True)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield lambda path: f"http://127.0.0.1:{server.port}{path}"
    server.shutdown()
    thread.join()


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_a_page_on_another_port_listens_where_its_script_came_from(
    new_tab, channel_server, channel_stub, elsewhere, host
):
    script = f"http://{host}:{channel_server.port}"
    tab = new_tab(url=elsewhere(f"/?script-of={script}"))
    tab.listen(channel.create_channel("alice"))
    channel_stub.wait_for("poll", "alice")
    channel.send_message("alice", "hello")
    assert tab.until_logged(2) == [["open"], ["message", "hello"]]
    assert tab.run("socket.send('from elsewhere')")
    assert tab.until_logged(3)[2] == ["message", "received from elsewhere"]
    tab.listen("nonsense")
    assert tab.until_logged(5)[3:] == [INVALID, ["close"]]


@pytest.mark.parametrize("absolute", [True, False], ids=["whole", "put in front"])
def test_a_page_may_set_where_its_channels_are(
    new_tab, channel_server, channel_stub, elsewhere, absolute
):
    tab = new_tab(url=elsewhere(f"/?script-of={channel_server.url}"))
    tab.do(
        "goog.appengine.Socket.BASE_URL = args[0] + goog.appengine.Socket.BASE_URL"
        if not absolute
        else "goog.appengine.Socket.BASE_URL = args[0] + '/_ah/channel/'",
        channel_server.url,
    )
    tab.listen(channel.create_channel("alice"))
    channel_stub.wait_for("poll", "alice")
    tab.run("socket.close()")
    channel_stub.wait_for("close", "alice")


def test_pages_that_poll_at_any_pace_stay_connected(new_tab, channel_stub, channel_clock):
    tabs = [new_tab() for _ in range(5)]
    for number, pause in enumerate(["137", "100 / 3", "Infinity", "-1", "20000"]):
        tab = tabs[number]
        tab.run(f"goog.appengine.Socket.POLLING_TIMEOUT_MS = {pause}")
        tab.listen(channel.create_channel(f"tab {number}"))
        channel_stub.wait_for("poll", f"tab {number}")
    tabs[4].until_logged(1)  # four polls are held: this tab pauses now
    channel_clock.advance(minutes=5)
    assert len(channel_stub.connected_client_ids) == 5


def test_four_polls_are_held_and_the_place_of_a_tab_that_closes_is_taken(new_tab, channel_stub):
    tabs = [new_tab() for _ in range(5)]
    for number, tab in enumerate(tabs):
        tab.run("goog.appengine.Socket.POLLING_TIMEOUT_MS = 20")
        tab.listen(channel.create_channel(f"tab {number}"))
        channel_stub.wait_for("poll", f"tab {number}")
    channel_stub.wait_for("poll", "tab 4", count=3)
    assert [len(channel_stub.timeline.of(f"tab {n}", kind="poll")) for n in range(4)] == [1] * 4
    tabs[0].run("socket.close()")
    tabs[4].until("socket.isHeld_")
