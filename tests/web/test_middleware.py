"""The endpoints over WSGI, without a server."""

from __future__ import annotations

import re
import warnings
from typing import ClassVar
from urllib.parse import urlencode

import pytest
from werkzeug.test import Client

from pytest_channelstub import TokenTimedOutError, channel
from pytest_channelstub import _tokens as tokens
from pytest_channelstub.web import ChannelMiddleware, ChannelServer

DEV = "/_ah/channel/dev"
JSAPI = "/_ah/channel/jsapi"


EMPTY = {"Content-Length": "0", "Cache-Control": "no-cache"}


def parts(answer):
    return answer.status, dict(answer.headers), answer.data


@pytest.fixture
def web(middleware):
    return Client(middleware)


def ask(web, command, token, status=200, **more):
    query = urlencode({"command": command, "channel": token, **more})
    answer = web.get(DEV, query_string=query)
    assert answer.status_code == status
    return answer


def test_connect_answers_1_and_connects_the_client(web, stub):
    answer = ask(web, "connect", channel.create_channel("alice"))
    assert (answer.status, answer.headers["Content-Type"], answer.data) == (
        "200 OK",
        "text/plain",
        b"1",
    )
    assert stub.connected_client_ids == ("alice",)


def test_a_poll_gives_the_first_message_as_utf8_json(web):
    token = channel.create_channel("alice")
    ask(web, "connect", token)
    channel.send_message("alice", '{"text": "grüß 猫"}')
    channel.send_message("alice", "second")
    answer = ask(web, "poll", token)
    assert answer.headers["Content-Type"] == "application/json"
    assert answer.data.decode() == '{"text": "grüß 猫"}'
    assert ask(web, "poll", token).data == b"second"


def test_a_poll_without_a_message_is_empty_and_has_no_content_type(web):
    token = channel.create_channel("alice")
    ask(web, "connect", token)
    answer = ask(web, "poll", token)
    assert answer.data == b""
    assert "Content-Type" not in answer.headers


def test_a_poll_connects_a_client_that_is_not(web, stub):
    ask(web, "poll", channel.create_channel("alice"))
    assert stub.is_connected("alice")


def test_a_poll_keeps_the_client_connected_and_a_pause_of_two_seconds_does_not(web, stub):
    token = channel.create_channel("alice")
    ask(web, "connect", token)
    for _ in range(5):
        stub.clock.advance(1.5)
        ask(web, "poll", token)
    assert stub.is_connected("alice")
    stub.clock.advance(2)
    assert not stub.is_connected("alice")


def test_disconnect_tells_the_app_at_once(web, stub):
    token = channel.create_channel("alice")
    ask(web, "connect", token)
    assert ask(web, "disconnect", token).data == b""
    assert not stub.is_connected("alice")
    assert [request.url for request in stub.requests] == [
        "/_ah/channel/connected/",
        "/_ah/channel/disconnected/",
    ]
    assert stub.timeline.of("alice", kind="close")


@pytest.mark.parametrize(
    "query",
    ["", "?command=connect", "?channel=x", "?command=&channel=x", "?command=open&channel=x"],
)
def test_a_missing_channel_or_command_is_400(web, query):
    assert parts(web.get(DEV + query)) == ("400 Bad Request", EMPTY, b"")


@pytest.mark.parametrize("command", ["connect", "poll", "disconnect"])
def test_a_blank_channel_is_an_invalid_token(web, command):
    assert parts(web.get(f"{DEV}?command={command}&channel=")) == (
        "401 Invalid+token.",
        EMPTY,
        b"",
    )


@pytest.mark.parametrize("command", ["connect", "poll", "disconnect"])
def test_a_malformed_token_is_401_invalid_token(web, command):
    for more in ({}, {"wait": "1", "next_poll_within": "1", "page": "p"}):
        answer = ask(web, command, "nonsense", status=401, **more)
        assert parts(answer) == ("401 Invalid+token.", EMPTY, b"")


@pytest.mark.parametrize("command", ["connect", "poll", "disconnect"])
def test_an_expired_token_is_401_token_timed_out(web, stub, command):
    token = channel.create_channel("alice", duration_minutes=1)
    stub.clock.advance(minutes=2)
    for more in ({}, {"wait": "1", "next_poll_within": "1", "page": "p"}):
        answer = ask(web, command, token, status=401, **more)
        assert parts(answer) == ("401 Token+timed+out.", EMPTY, b"")


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "HEAD", "OPTIONS", "PATCH"])
@pytest.mark.parametrize("path", [DEV, JSAPI])
def test_other_methods_are_405(web, method, path):
    answer = web.open(path, method=method)
    assert parts(answer) == ("405 Method Not Allowed", {**EMPTY, "Allow": "GET"}, b"")


def test_nothing_is_cached(web):
    token = channel.create_channel("alice")
    answers = [
        ask(web, "connect", token),
        ask(web, "poll", token),
        ask(web, "poll", "nonsense", status=401),
        web.get(DEV),
        web.post(DEV),
        web.get(JSAPI),
    ]
    assert {answer.headers["Cache-Control"] for answer in answers} == {"no-cache"}


def test_the_parameter_client_is_ignored(web, stub):
    ask(web, "connect", channel.create_channel("alice"), client="0.1.2.3")
    assert stub.connected_client_ids == ("alice",)


@pytest.mark.parametrize("client_id", ["a&b", "a+b", "a=b", "a%20b", "a/b", "a b", "猫 é", "a;b#?"])
def test_client_ids_of_all_sorts_work_when_the_page_quotes_them(web, stub, client_id):
    token = channel.create_channel(client_id)
    ask(web, "connect", token)
    assert stub.connected_client_ids == (client_id,)
    channel.send_message(client_id, "hello")
    assert ask(web, "poll", token).data == b"hello"
    ask(web, "disconnect", token)
    assert stub.connected_client_ids == ()


def test_a_client_id_of_another_script_works_unquoted_too(middleware, stub):
    token = channel.create_channel("猫")
    query = f"command=connect&channel={token}".encode().decode("latin-1")
    environ = {"REQUEST_METHOD": "GET", "PATH_INFO": DEV, "QUERY_STRING": query}
    list(middleware(environ, lambda *_started: None))
    assert stub.connected_client_ids == ("猫",)


@pytest.mark.parametrize("name", ["wait", "next_poll_within"])
@pytest.mark.parametrize("seconds", ["nan", "-1", "inf", "soon", "1e9", "\u0663"])
def test_a_time_that_is_not_a_number_of_seconds_is_400(web, name, seconds):
    ask(web, "poll", channel.create_channel("alice"), status=400, **{name: seconds})


def test_the_script_is_javascript_and_brings_channel_and_socket(web):
    status, headers, body = parts(web.get(JSAPI))
    assert status == "200 OK"
    assert headers == {
        "Content-Type": "text/javascript",
        "Content-Length": str(len(body)),
        "Cache-Control": "no-cache",
    }
    assert body.isascii()  # no charset is named
    assert re.search(rb"appengine\.Channel = ", body)


LOCAL = ["http://127.0.0.1:8081", "http://localhost:1", "https://localhost", "http://[::1]:8081"]


@pytest.mark.parametrize("origin", LOCAL)
def test_pages_of_this_machine_may_read_the_answers(web, origin):
    token = channel.create_channel("alice")
    for query in ({"command": "connect", "channel": token}, {"command": "connect", "channel": "x"}):
        answer = web.get(DEV, query_string=query, headers={"Origin": origin})
        assert answer.headers["Access-Control-Allow-Origin"] == origin
        assert answer.headers["Vary"] == "Origin"


@pytest.mark.parametrize(
    "origin", ["http://example.com", "null", "http://127.0.0.1.example", "http://["]
)
def test_pages_of_other_machines_may_not(web, origin):
    answer = web.get(JSAPI, headers={"Origin": origin})
    assert "Access-Control-Allow-Origin" not in answer.headers


def test_a_browser_that_asks_first_is_allowed_to_get(web):
    asks = {"Origin": LOCAL[0], "Access-Control-Request-Method": "GET"}
    answer = web.options(DEV, headers=asks)
    assert answer.status == "200 OK"
    assert answer.headers["Access-Control-Allow-Methods"] == "GET"
    assert answer.headers["Access-Control-Allow-Origin"] == LOCAL[0]


def test_the_apps_answer_to_receive_may_be_read_by_pages_of_this_machine(stub):
    def app(environ, start_response):
        start_response("200 OK", [("X-App", "yes")])
        return [environ["wsgi.input"].read()]

    web = Client(ChannelMiddleware(stub, app))
    form = {"key": "alice", "msg": "hello"}
    answer = web.post("/_ah/channel/receive", data=form, headers={"Origin": LOCAL[0]})
    assert (answer.data, answer.headers["X-App"]) == (b"key=alice&msg=hello", "yes")
    assert answer.headers["Access-Control-Allow-Origin"] == LOCAL[0]
    answer = web.post("/other", data=form, headers={"Origin": LOCAL[0]})
    assert "Access-Control-Allow-Origin" not in answer.headers


class OwnStub:
    """A stub of somebody's own, with the methods that the dev server's requests call."""

    def __init__(self, message):
        self.calls = []
        self.message = message

    def connect_channel(self, token):
        self.calls.append(("connect", token))

    def connect_and_pop_first_message(self, token):
        self.calls.append(("poll", token))
        return self.message

    def validate_token_and_extract_client_id(self, token):
        if token == "expired":  # noqa: S105 (it is not a password)
            raise TokenTimedOutError
        return f"client of {token}"

    def disconnect(self, client_id):
        self.calls.append(("disconnect", client_id))


def test_a_stub_of_ones_own_needs_no_more_than_the_methods_that_are_called():
    stub = OwnStub("hello")
    middleware = ChannelMiddleware(stub)
    web = Client(middleware)
    for more in ({}, {"page": "p", "wait": "1", "next_poll_within": "1"}):
        assert ask(web, "connect", "t", **more).data == b"1"
        assert ask(web, "poll", "t", **more).data == b"hello"
        ask(web, "disconnect", "t", **more)
        ask(web, "disconnect", "expired", status=401, **more)
    assert stub.calls == [("connect", "t"), ("poll", "t"), ("disconnect", "client of t")] * 2
    middleware.stop()


def test_every_other_path_goes_to_the_app_unread(stub):
    seen = []

    def app(environ, start_response):
        seen.append((environ["PATH_INFO"], environ["wsgi.input"].read()))
        start_response("299 Own", [("X-App", "yes")])
        return [b"app"]

    web = Client(ChannelMiddleware(stub, app))
    for path in ("/", "/_ah/channel/", "/_ah/channel/dev/", "/_ah/channel/connected/", "/chat"):
        answer = web.post(path, data=b"body")
        assert (answer.status, answer.data, answer.headers["X-App"]) == ("299 Own", b"app", "yes")
        assert seen.pop() == (path, b"body")


def test_without_an_app_other_paths_are_404_and_the_answer_names_the_fixture(web):
    answer = web.get("/chat")
    assert answer.status_code == 404
    assert "channel_app" in answer.text


def test_an_error_of_the_apps_handler_reaches_the_server(stub):
    def app(environ, _start_response):
        raise RuntimeError(environ["PATH_INFO"])

    stub.app = app
    with pytest.raises(RuntimeError, match="/_ah/channel/connected/"):
        ask(Client(ChannelMiddleware(stub, app)), "connect", channel.create_channel("alice"))


def test_a_message_that_utf8_cannot_hold_still_arrives(web, stub):
    token = channel.create_channel("alice")
    ask(web, "connect", token)
    stub.get_channel_messages(token).append("half \ud83d")
    assert ask(web, "poll", token).data == b"half ?"


def test_a_tokens_service_must_be_the_stubs(web):
    ask(web, "connect", tokens.make("mail", 1, 2_000_000_000, "alice"), status=401)


def test_webtest_can_drive_it(middleware, stub):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # WebOb imports a module that Python gave up
        webtest = pytest.importorskip("webtest")
    web = webtest.TestApp(middleware)
    token = channel.create_channel("alice")
    assert web.get(DEV, {"command": "connect", "channel": token}).text == "1"
    assert stub.is_connected("alice")
    channel.send_message("alice", "hello")
    assert web.get(DEV, {"command": "poll", "channel": token}).text == "hello"
    assert stub.timeline[-1].source.endswith(" in test_webtest_can_drive_it")


@pytest.mark.parametrize("kind", [ChannelMiddleware, ChannelServer])
def test_an_app_in_the_place_of_the_stub_is_refused(kind):
    message = "^stub is <built-in function print>, .*: pass channel_stub, and the app after it"
    with pytest.raises(TypeError, match=message):
        kind(print)


@pytest.mark.parametrize("kind", [ChannelMiddleware, ChannelServer])
def test_what_is_not_an_app_is_refused(stub, kind):
    with pytest.raises(TypeError, match="the app is 7, of type int: pass a WSGI callable"):
        kind(stub, 7)


@pytest.mark.parametrize("seconds", ["5.1370000000000005", "38.333333333333336", "3605", "5"])
def test_any_number_that_javascript_prints_is_a_pause(web, seconds):
    ask(web, "connect", channel.create_channel("alice"), page="p", next_poll_within=seconds)


def test_an_app_that_is_false_is_an_app(stub):
    class Router(dict):
        def __call__(self, environ, start_response):
            start_response("204 No Content", [])
            return []

    assert Client(ChannelMiddleware(stub, Router())).get("/").status == "204 No Content"


def test_the_sdks_own_methods_are_enough_of_a_stub():
    class Stub:
        calls: ClassVar = []
        connect_channel = connect_and_pop_first_message = calls.append
        disconnect_channel_event = calls.append

        def validate_token_and_extract_client_id(self, token):
            return f"client of {token}"

    web = Client(ChannelMiddleware(Stub()))
    ask(web, "connect", "t")
    ask(web, "disconnect", "t")
    assert Stub.calls == ["t", "client of t"]
