"""The endpoints, asked through WSGI and nothing else."""

from __future__ import annotations

import re
import warnings
from urllib.parse import urlencode

import pytest
from werkzeug.test import Client

from pytest_channelstub import channel
from pytest_channelstub import _tokens as tokens
from pytest_channelstub.web import ChannelMiddleware

DEV = "/_ah/channel/dev"
JSAPI = "/_ah/channel/jsapi"


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


@pytest.mark.parametrize("query", ["", "?command=connect", "?command=connect&channel="])
def test_a_missing_channel_or_command_is_400(web, query):
    assert web.get(DEV + query).status == "400 Bad Request"


@pytest.mark.parametrize("command", ["", "open", "CONNECT", "constructor"])
def test_an_unknown_command_is_400_and_says_which_there_are(web, command):
    answer = ask(web, command, channel.create_channel("alice"), status=400)
    assert "connect, poll, disconnect" in answer.text


@pytest.mark.parametrize("command", ["connect", "poll", "disconnect"])
def test_a_malformed_token_is_401_invalid_token(web, command):
    for wait in ({}, {"wait": "1", "again": "1", "page": "p"}):
        assert ask(web, command, "nonsense", status=401, **wait).status == "401 Invalid+token."


@pytest.mark.parametrize("command", ["connect", "poll", "disconnect"])
def test_an_expired_token_is_401_token_timed_out(web, stub, command):
    token = channel.create_channel("alice", duration_minutes=1)
    stub.clock.advance(minutes=2)
    for wait in ({}, {"wait": "1", "again": "1", "page": "p"}):
        assert ask(web, command, token, status=401, **wait).status == "401 Token+timed+out."


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "HEAD", "OPTIONS", "PATCH"])
@pytest.mark.parametrize("path", [DEV, JSAPI])
def test_other_methods_are_405(web, method, path):
    answer = web.open(path, method=method)
    assert answer.status == "405 Method Not Allowed"
    assert answer.headers["Allow"] == "GET"


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


@pytest.mark.parametrize("wait", ["nan", "-1", "inf", "soon", "1e9", "٣"])
def test_a_wait_that_is_no_number_of_seconds_is_400(web, wait):
    answer = ask(web, "poll", channel.create_channel("alice"), status=400, wait=wait)
    assert "at most 30" in answer.text


def test_the_script_is_javascript_and_brings_channel_and_socket(web):
    answer = web.get(JSAPI)
    assert answer.headers["Content-Type"] == "text/javascript; charset=utf-8"
    assert re.search(r"appengine\.Channel = Channel", answer.text)


def test_the_cookie_that_tells_browsers_apart_is_hidden_from_app_and_page(web):
    cookie = web.get(JSAPI).headers["Set-Cookie"]
    assert "Path=/_ah/channel/" in cookie
    assert "HttpOnly" in cookie
    assert "Set-Cookie" not in web.get(JSAPI).headers


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
