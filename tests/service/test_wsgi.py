"""Apps that keep to PEP 3333, and apps that break its rules."""

from __future__ import annotations

from wsgiref.validate import validator

import pytest

from pytest_channelstub import (
    ChannelAppWarning,
    ChannelClient,
    ChannelServiceStub,
    FakeClock,
    channel,
)


@pytest.fixture
def stub():
    with ChannelServiceStub(time_func=FakeClock(start=0).time) as stub:
        yield stub


def answer(*parts, status="200 OK", headers=()):
    def app(_, start_response):
        start_response(status, headers if isinstance(headers, dict) else list(headers))
        return list(parts)

    return app


def twice(_, start_response):
    start_response("200 OK", [])
    start_response("200 OK", [])
    return []


def third_argument(_, start_response):
    start_response("200 OK", [])
    start_response("500 Oh", [], 5)
    return []


def write_text(_, start_response):
    start_response("200 OK", [])("x")
    return []


def answer_none(_, start_response):
    start_response("200 OK", [])


def answer_text(_, start_response):
    start_response("200 OK", [])
    return "done"


FAULTS = [
    (answer("text"), r"has 'text', of type str, in its body: encode it"),
    (answer_text, r"returned 'done': return an iterable of bytes"),
    (answer_none, r"returned None: return an iterable of bytes"),
    (lambda *_: [], r"answered without calling start_response"),
    (twice, r"called start_response twice"),
    (answer(status=200), r"the status 200: pass a code and a reason in a str"),
    (answer(status="OK"), r"the status 'OK': pass a code and a reason"),
    (answer(status="200 OK\r\nX: y"), r"the status '200 OK"),
    (answer(headers={"a": "b"}), r"headers of type dict: pass a list of pairs"),
    (answer(headers=[("a", 1)]), r"pass a tuple of two strs"),
    (answer(headers=[["a", "b"]]), r"pass a tuple of two strs"),
    (answer(headers=[("a", "b\r\nc: d")]), r"a header has no line break"),
    (answer(headers=[("a", "\u20ac")]), r"nothing beyond ISO-8859-1"),
    (answer(headers=[("a", "b\x0b")]), r"no control character"),
    (answer(headers=[("a b", "c")]), r"name is of letters, digits and hyphens"),
    (answer(headers=[("", "c")]), r"name is of letters, digits and hyphens"),
    (answer(headers=[("\u20ac", "c")]), r"name is of letters, digits and hyphens"),
    (answer(headers=[("Transfer-Encoding", "chunked")]), r"leave this header to the server"),
    (answer(headers=[("Content-Length", "abc")]), r"pass the number of bytes in the body"),
    (
        answer(headers=[("Content-Length", "10")]),
        r"a body of 0 bytes, and its Content-Length is 10",
    ),
    (answer(status="200 \u20ac"), r"the status '200 ..20ac': pass a code and a reason"),
    (third_argument, r"passed 5 to start_response as exc_info: pass what sys.exc_info\(\) gives"),
    (write_text, r"has 'x', of type str, in its body: encode it"),
]


@pytest.mark.parametrize(("app", "message"), FAULTS)
def test_an_app_that_breaks_pep_3333_is_an_error_that_says_what_is_wanted(stub, app, message):
    stub.app = app

    with pytest.raises(AssertionError, match=message):
        stub.add_connect_event("alice")

    assert stub.requests[0].status is None
    assert stub.timeline[-1].outcome.startswith("AssertionError: the app broke PEP 3333")


@pytest.mark.filterwarnings("error")
def test_an_app_under_the_standard_librarys_validator_is_accepted(stub):
    def app(environ, start_response):
        assert environ["SCRIPT_NAME"] == ""
        environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"]))
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [b"done"]

    stub.app = validator(app)
    ChannelClient(stub, channel.create_channel("alice")).close()

    assert [request.status for request in stub.requests] == [200, 200]


def test_a_content_length_that_is_right_is_accepted(stub):
    stub.app = answer(b"ab", b"c", headers=[("content-length", "3")])
    stub.add_connect_event("alice")
    stub.app = answer(status="204 No Content", headers=[("Content-Length", "3")])
    stub.add_connect_event("alice")

    assert [request.status for request in stub.requests] == [200, 204]


def test_an_app_that_uses_write_is_accepted(stub):
    def app(_, start_response):
        start_response("500 Broken", [])(b"written")
        return []

    stub.app = app
    with pytest.warns(ChannelAppWarning, match="which began 'written'"):
        stub.add_connect_event("alice")


def test_start_response_may_be_called_again_with_exc_info(stub):
    def app(_, start_response):
        start_response("200 OK", [])
        start_response("204 No Content", [], (None, None, None))
        return []

    stub.app = app
    stub.add_connect_event("alice")

    assert stub.requests[0].status == 204


def test_an_answer_is_closed_once_it_was_read(stub):
    class Answer(list):
        closed = False

        def close(self):
            self.closed = True

    body = Answer([b"a", b"b"])
    stub.app = lambda _, start_response: start_response("204 No Content", []) and body

    stub.add_connect_event("alice")

    assert body.closed


@pytest.mark.parametrize("app", [3, "app", (), lambda: None, lambda _: None])
def test_a_value_that_is_not_an_app_is_refused_at_once(stub, app):
    with pytest.raises(TypeError, match="pass "):
        stub.app = app

    assert stub.app is None
