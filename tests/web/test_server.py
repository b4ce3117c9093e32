"""The live server: what it serves, how it stops, and what it survives."""

from __future__ import annotations

import contextlib
import gc
import http.client
import logging
import os
import select
import socket
import threading
import time
import warnings
from pathlib import Path
from wsgiref.validate import validator

import pytest

from pytest_channelstub import ChannelAppWarning, ChannelServiceStub, FakeClock, channel
from pytest_channelstub.web import ChannelServer

DESCRIPTORS = Path("/proc/self/fd")
SOCKETS = (Path("/proc/net/tcp"), Path("/proc/net/tcp6"))


def app(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    query = environ["QUERY_STRING"]
    return [environ["PATH_INFO"].encode("latin-1"), b"?" + query.encode() if query else b""]


@pytest.fixture
def server(stub):
    with ChannelServer(stub, app) as server:
        yield server


def get(server, path, timeout=10):
    connection = http.client.HTTPConnection(server.host, server.port, timeout=timeout)
    with contextlib.closing(connection):
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.reason, answer.read()


def dev(server, command, token, more=""):
    return get(server, f"/_ah/channel/dev?command={command}&channel={token}{more}")


def exchange(server, request):
    with connect(server) as connection:
        connection.sendall(request)
        return b"".join(iter(lambda: connection.recv(65536), b""))


def connect(server):
    return socket.create_connection((server.host, server.port), timeout=10)


def threads_of_servers():
    return {thread for thread in threading.enumerate() if thread.name.startswith("channel")}


def test_it_serves_the_app_and_the_service(server):
    assert get(server, "/hello") == (200, "OK", b"/hello")
    assert get(server, "/_ah/channel/jsapi")[0] == 200
    assert dev(server, "connect", channel.create_channel("alice")) == (200, "OK", b"1")
    assert dev(server, "poll", "nonsense")[:2] == (401, "Invalid+token.")


def test_an_app_is_not_needed(stub):
    with ChannelServer(stub) as server:
        assert get(server, "/hello")[0] == 404


def test_the_url_is_that_of_a_free_port_of_127_0_0_1(server):
    assert server.host == "127.0.0.1"
    assert server.port > 0
    assert server.url == f"http://127.0.0.1:{server.port}"


@pytest.mark.parametrize(
    ("path", "query", "expected"),
    [
        ("/", {}, "/"),
        ("chat", {}, "/chat"),
        ("/chat", {"user": "a&b c", "n": 1}, "/chat?user=a%26b+c&n=1"),
        ("/chat?x=1", {"y": [2, 3]}, "/chat?x=1&y=2&y=3"),
        ("/猫 é", {}, "/%E7%8C%AB%20%C3%A9"),
        ("/a%20b", {}, "/a%20b"),
    ],
)
def test_url_for_quotes_path_and_query(server, path, query, expected):
    assert server.url_for(path, **query) == server.url + expected


def test_arguments_of_another_type_are_refused(stub, server):
    with pytest.raises(TypeError, match=r"^port is '80', of type str: pass a number, or 0 for a "):
        ChannelServer(stub, port="80")
    with pytest.raises(TypeError, match=r"^host is None, of type NoneType: pass a name or an add"):
        ChannelServer(stub, host=None)
    with pytest.raises(TypeError, match=r"^path is None, of type NoneType: pass a str, such as "):
        server.url_for(None)


def test_the_app_gets_paths_and_queries_as_they_were_sent(server):
    path = server.url_for("/猫", q="é").removeprefix(server.url)
    assert get(server, path) == (200, "OK", "/猫".encode() + b"?q=%C3%A9")


def test_an_exception_in_the_app_is_a_500_and_is_kept(stub):
    def broken(environ, _start_response):
        raise RuntimeError(environ["PATH_INFO"])

    with ChannelServer(stub, broken) as server:
        assert get(server, "/a")[:2] == (500, "Internal Server Error")
        assert get(server, "/b")[0] == 500
        assert [str(error) for error in server.take_errors()] == ["/a", "/b"]
        assert server.take_errors() == []


def test_an_exception_in_the_middle_of_an_answer_is_kept(stub):
    def broken(_environ, start_response):
        start_response("200 OK", [("Content-Type", "text/plain")])
        yield b"half"
        raise RuntimeError("the other half")

    with ChannelServer(stub, broken) as server:
        with pytest.raises((http.client.IncompleteRead, ConnectionError)):
            get(server, "/")
        assert [str(error) for error in server.take_errors()] == ["the other half"]


def no_start(_environ, _start_response):
    return [b"text"]


def two_starts(_environ, start_response):
    start_response("200 OK", [])
    start_response("200 OK", [])
    return []


def text_for_bytes(_environ, start_response):
    start_response("200 OK", [])
    return ["text"]


def text_for_a_list(_environ, start_response):
    start_response("200 OK", [])
    return "text"


def dict_of_headers(_environ, start_response):
    start_response("200 OK", {"X-App": "yes"})
    return []


def status_of_digits(_environ, start_response):
    start_response("200", [])
    return []


def header_of_two_lines(_environ, start_response):
    start_response("200 OK", [("X-App", "one\r\nX-Other: two")])
    return []


@pytest.mark.parametrize(
    ("broken", "what"),
    [
        (no_start, "answered without calling start_response"),
        (two_starts, "called start_response twice"),
        (text_for_bytes, "has 'text', of type str, in its body"),
        (text_for_a_list, "return an iterable of bytes"),
        (dict_of_headers, "pass a list of pairs"),
        (status_of_digits, "pass a code and a reason in a str"),
        (header_of_two_lines, "a header has no line break"),
    ],
)
def test_an_app_that_breaks_pep_3333_is_an_error_that_says_how(stub, broken, what):
    with ChannelServer(stub, broken) as server:
        assert get(server, "/chat")[0] == 500
        [error] = server.take_errors()
    assert isinstance(error, AssertionError)
    assert "PEP 3333 in its answer to GET /chat" in str(error)
    assert what in str(error)


def test_wsgirefs_validator_may_check_the_app(stub):
    with ChannelServer(stub, validator(app)) as server:
        assert get(server, "/chat?a=b") == (200, "OK", b"/chat?a=b")
        assert dev(server, "connect", channel.create_channel("alice"))[0] == 200
        assert server.take_errors() == []
    assert [request.status for request in stub.requests] == [200]


def internal_error(_environ, start_response):
    start_response("500 Internal Server Error", [("Content-Type", "text/html")])
    return [b"<style>p {}</style><h1>Oh no</h1>", b"<p>Traceback</p>"]


def test_an_answer_of_500_is_recorded_and_warned_of_at_a_line_of_the_app(stub):
    with ChannelServer(stub, internal_error) as server:
        with pytest.warns(ChannelAppWarning, match="'500 Internal Server Error' to GET /") as got:
            get(server, "/chat")
        assert server.take_errors() == []
    assert "which began 'Oh no Traceback'" in str(got[0].message)
    assert (got[0].filename, got[0].lineno) == (__file__, internal_error.__code__.co_firstlineno)
    [event] = stub.timeline.of(kind="request")
    assert event.outcome == "500 Internal Server Error: 'Oh no Traceback'"
    assert stub.requests == ()


def test_a_warning_that_is_an_error_is_an_error_of_the_app(stub):
    with ChannelServer(stub, internal_error) as server, warnings.catch_warnings():
        warnings.simplefilter("error")
        assert get(server, "/chat")[0] == 500
        [error] = server.take_errors()
    assert isinstance(error, ChannelAppWarning)


def until(condition):
    for _ in range(500):
        if condition():
            return
        threading.Event().wait(0.01)
    pytest.fail("it did not happen within five seconds")


def test_a_head_request_has_no_body(stub):
    head = b"HEAD /%s HTTP/1.1\r\nHost: x\r\n\r\n"
    with ChannelServer(stub, app) as server:
        for path in (b"chat", b"_ah/channel/jsapi"):
            assert exchange(server, head % path).endswith(b"\r\n\r\n")
    with ChannelServer(stub) as server:
        assert exchange(server, head % b"chat").endswith(b"\r\n\r\n")


def test_utf8_that_is_not_quoted_works_in_queries_and_paths(server, stub):
    token = channel.create_channel("\u732b")
    line = f"GET /_ah/channel/dev?command=connect&channel={token} HTTP/1.1\r\n\r\n"
    assert exchange(server, line.encode()).endswith(b"\r\n\r\n1")
    assert stub.connected_client_ids == ("\u732b",)
    answer = exchange(server, "GET /\u732b?q=\u732b HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    assert "/\u732b" in answer.decode()
    assert b"?q=%E7%8C%AB" in answer


def test_its_app_hears_who_connects_unless_the_stub_has_one(stub):
    with ChannelServer(stub, app) as server:
        dev(server, "connect", channel.create_channel("alice"))
        assert [request.status for request in stub.requests] == [200]
    assert stub.app is None
    stub.app = internal_error
    with ChannelServer(stub, app):
        assert stub.app is internal_error
    assert stub.app is internal_error


@pytest.mark.parametrize("other", [None, app])
def test_what_is_not_a_wsgi_app_is_refused_and_leaves_no_server(stub, free_port, other):
    async def asgi(scope, receive, send): ...

    stub.app = other
    with pytest.raises(TypeError, match="an ASGI callable"):
        ChannelServer(stub, asgi, free_port)
    with ChannelServer(stub, app, free_port):
        pass


def test_a_client_times_out_by_itself_on_the_systems_clock():
    now = [1_600_000_000.0]
    with ChannelServiceStub(time_func=lambda: now[0]) as stub, ChannelServer(stub, app) as server:
        dev(server, "connect", channel.create_channel("alice"))
        now[0] += 2
        with stub._lock:  # nothing but the server's own look may come in between
            until_event(stub, "timeout")
    assert [request.url for request in stub.requests][1:] == ["/_ah/channel/disconnected/"]


def until_event(stub, kind):
    assert stub._changed.wait_for(lambda: any(row.kind == kind for row in stub.timeline._rows), 5)


def test_an_error_of_a_handler_at_a_timeout_is_kept():
    now = [1_600_000_000.0]

    def broken(environ, start_response):
        if environ["PATH_INFO"] == "/_ah/channel/disconnected/":
            raise RuntimeError("nobody may leave")
        return app(environ, start_response)

    with (
        ChannelServiceStub(time_func=lambda: now[0]) as stub,
        ChannelServer(stub, broken) as server,
    ):
        dev(server, "connect", channel.create_channel("alice"))
        now[0] += 2
        until(lambda: server._errors)
        assert [str(error) for error in server.take_errors()] == ["nobody may leave"]


def test_an_address_that_others_can_reach_is_warned_of(stub):
    with pytest.warns(UserWarning, match=r"listens on 0\.0\.0\.0, which other machines"):
        server = ChannelServer(stub, app, host="0.0.0.0")  # noqa: S104 (it is what is warned of)
    with server:
        assert (server.host, server.url) == ("0.0.0.0", f"http://0.0.0.0:{server.port}")  # noqa: S104
        with contextlib.closing(http.client.HTTPConnection("127.0.0.1", server.port)) as other:
            other.request("GET", "/")
            assert other.getresponse().status == 200


@pytest.mark.skipif(not socket.has_dualstack_ipv6(), reason="needs IPv6")
def test_it_may_listen_on_ipv6(stub):
    with ChannelServer(stub, app, host="::1") as server:
        assert server.url == f"http://[::1]:{server.port}"
        assert get(server, "/hello")[2] == b"/hello"


def test_an_address_that_is_not_of_this_machine_is_an_error_that_names_it(stub):
    with pytest.raises(OSError, match=r"of 192\.0\.2\.1: "):
        ChannelServer(stub, host="192.0.2.1")


def test_an_apps_own_connection_error_is_a_500_too(stub):
    def broken(_environ, _start_response):
        raise ConnectionRefusedError("the database")

    with ChannelServer(stub, broken) as server:
        assert get(server, "/")[0] == 500
        assert [str(error) for error in server.take_errors()] == ["the database"]


def test_writing_to_a_browser_that_left_is_not_an_error_of_the_app(stub, capfd):
    answering, entered = [], threading.Event()

    def writing(environ, _start_response):
        answering.append(threading.current_thread())
        entered.set()
        select.select([environ["werkzeug.socket"]], [], [], 10)  # until the browser leaves
        raise BrokenPipeError("nobody reads")

    with ChannelServer(stub, writing) as server:
        with connect(server) as browser:
            browser.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            assert entered.wait(5)
        answering[0].join(5)
        assert server.take_errors() == []
    assert capfd.readouterr() == ("", "")


def test_a_handler_that_fails_when_a_client_connects_is_a_500_and_is_kept(stub):
    def broken(_environ, _start_response):
        raise RuntimeError("nobody may connect")

    stub.app = broken
    with ChannelServer(stub, broken) as server:
        assert dev(server, "connect", channel.create_channel("alice"))[0] == 500
        assert [str(error) for error in server.take_errors()] == ["nobody may connect"]


def test_two_servers_serve_two_stubs(stub):
    token = channel.create_channel("alice")
    with ChannelServiceStub(time_func=FakeClock().time) as other:
        with ChannelServer(stub) as one, ChannelServer(other) as two:
            dev(one, "connect", token)
            assert (stub.is_connected("alice"), other.is_connected("alice")) == (True, False)
            dev(two, "connect", token)
        assert other.is_connected("alice")


def test_it_stops_at_once_with_polls_held_and_answers_them(stub, in_background):
    server = ChannelServer(stub, app)
    answers = [
        in_background(dev, server, "poll", channel.create_channel(f"c{number}"), "&wait=30")
        for number in range(20)
    ]
    stub.wait_for("poll", count=20)
    began = time.perf_counter()
    server.stop()
    assert time.perf_counter() - began < 1
    assert {answer.result(5) for answer in answers} == {(200, "OK", b"")}
    assert not threads_of_servers()


def test_it_stops_at_once_with_idle_and_half_connections(stub):
    server = ChannelServer(stub, app)
    with contextlib.ExitStack() as ends:
        for number in range(20):
            connection = ends.enter_context(connect(server))
            if number % 2:
                connection.sendall(b"GET / HTTP/1.1\r\nHost: x")
        get(server, "/")
        began = time.perf_counter()
        server.stop()
        assert time.perf_counter() - began < 1
    assert not threads_of_servers()


def test_a_request_that_does_not_end_is_left_behind_with_a_warning(stub, in_background):
    entered, leave = threading.Event(), threading.Event()

    def slow(_environ, start_response):
        entered.set()
        leave.wait(10)
        start_response("200 OK", [])
        return []

    server = ChannelServer(stub, slow)
    answer = in_background(get, server, "/")
    entered.wait(5)
    with pytest.warns(ResourceWarning, match=r"1 request\(s\) to the app were still under way"):
        server.stop()
    leave.set()
    assert isinstance(answer.exception(5), (ConnectionError, http.client.HTTPException))
    for thread in threads_of_servers():
        thread.join(5)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork")
def test_a_forked_process_may_stop_the_server_and_the_first_goes_on(stub, server):
    child = os.fork()
    if not child:
        server.stop()
        os._exit(7)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 7
    assert get(server, "/still")[0] == 200


def test_stopping_twice_does_nothing(stub):
    server = ChannelServer(stub)
    server.stop()
    server.stop()


def test_a_port_that_is_taken_is_an_error_that_names_it(stub, server):
    with pytest.raises(OSError, match=f"port {server.port} of 127.0.0.1"):
        ChannelServer(stub, port=server.port)


def test_a_port_can_be_had_again_as_soon_as_its_server_has_stopped(stub, free_port):
    with ChannelServer(stub, app, port=free_port) as server:
        get(server, "/")
    with ChannelServer(stub, app, port=free_port) as again:
        assert get(again, "/")[0] == 200


def test_starting_and_stopping_leaves_no_thread_descriptor_or_warning(stub):
    def open_files():
        return len(list(DESCRIPTORS.iterdir())) if DESCRIPTORS.is_dir() else 0

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for number in range(6):
            with ChannelServer(stub, app) as server:
                token = channel.create_channel("alice")
                dev(server, "connect", token, "&page=p&next_poll_within=5")
                dev(server, "poll", token, "&page=p&next_poll_within=5&wait=0.001")
            if number == 0:
                gc.collect()
                before = threading.active_count(), open_files()
        gc.collect()
    threads, files = before  # a thread of an earlier test may have ended since
    assert threading.active_count() <= threads
    assert open_files() <= files


GARBAGE = {
    "a request line of 1 MB": b"GET /" + b"x" * 1_000_000 + b" HTTP/1.1\r\n\r\n",
    "a header of 1 MB": b"GET / HTTP/1.1\r\nX: " + b"x" * 1_000_000 + b"\r\n\r\n",
    "1000 headers": b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 1000 + b"\r\n",
    "no host": b"GET / HTTP/1.1\r\n\r\n",
    "no request": b"\r\n\r\n",
    "zeros": bytes(5000),
    "a TLS greeting": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(range(256)),
    "HTTP/9": b"GET / HTTP/9.9\r\n\r\n",
    "a target that is no URL": b"GET http://[ HTTP/1.1\r\nHost: x\r\n\r\n",
    "a length that is no number": b"POST / HTTP/1.1\r\nContent-Length: many\r\n\r\n",
    "a chunk that is not one": b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    "bytes of no encoding": b"GET /_ah/channel/dev?command=poll&channel=\xff HTTP/1.1\r\n\r\n",
    "quoted bytes of no encoding": b"GET /_ah/channel/dev?channel=%ff%00 HTTP/1.1\r\n\r\n",
    "half a request": b"GET / HT",
}


@pytest.mark.parametrize("garbage", GARBAGE.values(), ids=GARBAGE)
def test_it_goes_on_serving_after_garbage(server, garbage, capfd):
    with connect(server) as connection, contextlib.suppress(OSError):
        connection.sendall(garbage)
        connection.shutdown(socket.SHUT_WR)
        while connection.recv(65536):
            pass
    assert get(server, "/still")[0] == 200
    server.stop()
    assert server.take_errors() == []
    assert capfd.readouterr() == ("", "")


def test_a_target_that_is_not_a_url_is_refused(server):
    answer = exchange(server, b"GET http://[ HTTP/1.1\r\nHost: x\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 400 Bad request target\r\n")


def test_a_target_with_a_port_that_cannot_be_is_answered_in_full(server, capfd):
    answer = exchange(server, b"GET http://x:99999/path HTTP/1.1\r\nHost: x\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
    assert b"/path" in answer
    assert capfd.readouterr() == ("", "")


def test_requests_are_logged_at_level_debug_with_control_characters_escaped(server, caplog):
    with caplog.at_level(logging.DEBUG, "pytest_channelstub.web.server"):
        exchange(server, b"GET /\x1b[31m HTTP/1.1\r\nHost: x\r\n\r\n")
    assert r"'GET /\x1b[31m HTTP/1.1' 200" in caplog.messages


def test_it_serves_beside_200_idle_connections(server):
    with contextlib.ExitStack() as ends:
        for _ in range(200):
            ends.enter_context(connect(server))
        assert get(server, "/still")[0] == 200


@pytest.mark.skipif(not SOCKETS[0].exists(), reason="needs Linux's /proc")
def test_it_listens_on_no_other_address(server):
    tables = [table.read_text() for table in SOCKETS if table.exists()]
    rows = [line.split() for table in tables for line in table.splitlines()]
    port = f":{server.port:04X}"
    listening = [row[1] for row in rows if row[1].endswith(port) and row[3] == "0A"]
    assert listening == [f"0100007F{port}"]


def test_a_url_takes_a_fragment_after_its_query(server):
    assert server.url_for("/chat#top", user="alice") == f"{server.url}/chat?user=alice#top"
    assert server.url_for("/chat?a=1#top", b=2) == f"{server.url}/chat?a=1&b=2#top"


@pytest.mark.parametrize("host", ["no\0host", "x" * 70])
def test_a_host_that_is_no_name_is_an_os_error_and_leaves_no_socket(stub, host):
    with pytest.raises(OSError, match="channel_server cannot listen on port 0 of"):
        ChannelServer(stub, host=host)
    gc.collect()  # a socket that was left open would warn


def test_an_empty_host_is_refused(stub):
    with pytest.raises(ValueError, match="host is empty: pass a name or an address"):
        ChannelServer(stub, host="")
