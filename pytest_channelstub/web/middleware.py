"""The service's endpoints, for any WSGI server."""

from __future__ import annotations

import re
import secrets
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs

from pytest_channelstub import _tokens as tokens
from pytest_channelstub.web.long_poll import AskerGoneError, Poll, Polls
from pytest_channelstub.web.lookout import Lookout
from pytest_channelstub.web.presence import Page, Presence

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from pytest_channelstub._service.stub import ChannelServiceStub

DEV = "/_ah/channel/dev"
JSAPI = "/_ah/channel/jsapi"

_COMMANDS = ("connect", "poll", "disconnect")
_LONGEST_WAIT = 30.0
# Of the path of the service alone, so that the app never sees it.
_COOKIE = "channelstub-browser"
_STOP_WITHIN = 0.2


class _RefusedError(Exception):
    """A request that is answered with an error.

    Attributes:
        status: The answer's status line.
        headers: The answer's headers.
    """

    def __init__(self, status: str, text: str, *headers: tuple[str, str]) -> None:
        super().__init__(text)
        self.status = status
        self.headers = headers


@dataclass(frozen=True, slots=True)
class _Answer:
    body: bytes = b""
    content_type: str = ""
    headers: tuple[tuple[str, str], ...] = ()
    status: str = "200 OK"


@dataclass(frozen=True, slots=True)
class _Asked:
    """What a request asks.

    Attributes:
        token: The channel's token, as it came.
        page: The page; without a client id if the token is none.
        wait: For how many real seconds the poll may be held.
        again: Within how many real seconds the page will ask again; 0 if it does not say.
        environ: The request, as WSGI has it.
    """

    token: str
    page: Page
    wait: float
    again: float
    environ: dict[str, Any]


class ChannelMiddleware:
    """Answers under `/_ah/channel/` for a stub; hands every other path to the app.

    `jsapi` is the page's script; `dev` takes the commands `connect`, `poll` and
    `disconnect`. A poll with `wait=SECONDS` is held for so long, in real time, or until
    there is something to say.

    Example:
        >>> app = ChannelMiddleware(stub, my_app)
        >>> webtest.TestApp(app).get("/_ah/channel/jsapi")

    Args:
        stub: The service.
        app: The WSGI app that has all other paths; None if there is none.

    Attributes:
        stub: As given.
        app: As given; may be assigned.
    """

    def __init__(self, stub: ChannelServiceStub, app: Callable[..., Any] | None = None) -> None:
        self.stub = stub
        self.app = app
        self._lookout = Lookout()
        self._presence = Presence(stub, self._lookout)
        self._polls = Polls(stub, self._lookout)
        self._stopped = False
        self._commands = {
            "connect": self._connect,
            "poll": self._poll,
            "disconnect": self._disconnect,
        }

    def __call__(
        self, environ: dict[str, Any], start_response: Callable[..., Any]
    ) -> Iterable[bytes]:
        """Answer a request, as WSGI has it."""
        __tracebackhide__ = True  # an error of the app's is shown where it was raised
        path = environ.get("PATH_INFO", "")
        if path not in (DEV, JSAPI):
            return (self.app or _no_app)(environ, start_response)
        try:
            _check_method(environ)
            answer = self._command(environ) if path == DEV else _script(environ)
        except _RefusedError as error:
            text = f"{error}\n".encode()
            answer = _Answer(text, "text/plain; charset=utf-8", error.headers, error.status)
        start_response(answer.status, _headers(answer))
        return [answer.body]

    def stop(self) -> None:
        """Have every held poll answered, and wait until none is left; none is held again."""
        self._stopped = True
        self._polls.stop()
        self._presence.stop(_STOP_WITHIN)
        self._lookout.stop(_STOP_WITHIN)

    def _command(self, environ: dict[str, Any]) -> _Answer:
        query = environ.get("QUERY_STRING", "")
        # WSGI hands over bytes as Latin-1; a page that did not quote sent UTF-8.
        fields = parse_qs(query.encode("latin-1", "replace").decode("utf-8", "replace"))
        command = _field(fields, "command")
        token = _field(fields, "channel")
        if command not in _COMMANDS:
            text = f"the command is {command!r}: send one of {', '.join(_COMMANDS)}"
            raise _RefusedError("400 Bad Request", text)
        if not token:
            raise _RefusedError("400 Bad Request", "the channel is missing: send channel=TOKEN")
        try:
            return self._commands[command](_read(environ, fields, token))
        except tokens.InvalidTokenError as error:
            raise _RefusedError("401 Invalid+token.", str(error)) from None
        except tokens.TokenTimedOutError as error:
            raise _RefusedError("401 Token+timed+out.", str(error)) from None

    def _connect(self, asked: _Asked) -> _Answer:
        if asked.again <= 0:
            self.stub.connect_channel(asked.token)
        else:
            with self._presence.asking(asked.page, asked.token):
                self.stub.connect_channel(asked.token)
                self._expect_again(asked)
        return _Answer(b"1", "text/plain")

    def _poll(self, asked: _Asked) -> _Answer:
        if self._presence.has_left(asked.page):
            return _Answer()
        if asked.wait <= 0 and asked.again <= 0:
            return _message(self.stub.connect_and_pop_first_message(asked.token))
        with self._presence.asking(asked.page, asked.token):
            try:
                message = self._polls.answer(self._as_poll(asked))
            except AskerGoneError:
                return _Answer()
            self._expect_again(asked)
        return _message(message)

    def _disconnect(self, asked: _Asked) -> _Answer:
        client_id = self.stub.validate_token_and_extract_client_id(asked.token)
        if self._presence.leave(asked.page):
            self.stub.disconnect(client_id)
        self._polls.wake()
        return _Answer()

    def _as_poll(self, asked: _Asked) -> Poll:
        environ = asked.environ
        return Poll(
            token=asked.token,
            wait=asked.wait,
            connection=environ.get("werkzeug.socket") or environ.get("gunicorn.socket"),
            browser=_browser(environ),
            has_left=lambda: self._presence.has_left(asked.page),
        )

    def _expect_again(self, asked: _Asked) -> None:
        gone = self._stopped or self._presence.has_left(asked.page)
        if asked.again > 0 and not gone:
            self._presence.expect(asked.page, asked.token, asked.again)


def _check_method(environ: dict[str, Any]) -> None:
    method = environ.get("REQUEST_METHOD")
    if method != "GET":
        text = f"the method is {method}: send GET"
        raise _RefusedError("405 Method Not Allowed", text, ("Allow", "GET"))


def _read(environ: dict[str, Any], fields: dict[str, list[str]], token: str) -> _Asked:
    read = tokens.read(token)
    page = Page("" if read is None else read.client_id, _field(fields, "page"))
    return _Asked(token, page, _seconds(fields, "wait"), _seconds(fields, "again"), environ)


def _field(fields: dict[str, list[str]], name: str) -> str:
    return fields.get(name, [""])[0]


def _seconds(fields: dict[str, list[str]], name: str) -> float:
    text = _field(fields, name) or "0"
    # Plain digits: float() would take "nan" as well.
    if not re.fullmatch(r"\d{1,9}(\.\d{0,9})?|\.\d{1,9}", text, re.ASCII):
        message = f"{name} is {text!r}: send a number of seconds, at most {_LONGEST_WAIT:g}"
        raise _RefusedError("400 Bad Request", message)
    return min(float(text), _LONGEST_WAIT)


def _browser(environ: dict[str, Any]) -> str:
    found = re.search(rf"{_COOKIE}=([0-9a-f]+)", environ.get("HTTP_COOKIE", ""))
    return found[1] if found else ""


def _message(message: str | None) -> _Answer:
    if message is None:
        return _Answer()
    # What is no text for UTF-8, half a surrogate pair, becomes a question mark.
    return _Answer(message.encode("utf-8", "replace"), "application/json")


def _script(environ: dict[str, Any]) -> _Answer:
    cookie = f"{_COOKIE}={secrets.token_hex(8)}; Path=/_ah/channel/; HttpOnly; SameSite=Lax"
    headers = () if _browser(environ) else (("Set-Cookie", cookie),)
    return _Answer(_script_text(), "text/javascript; charset=utf-8", headers)


@cache
def _script_text() -> bytes:
    return Path(__file__).with_name("channel.js").read_bytes()


def _headers(answer: _Answer) -> list[tuple[str, str]]:
    kind = [("Content-Type", answer.content_type)] if answer.content_type else []
    length = ("Content-Length", str(len(answer.body)))
    return [*kind, length, ("Cache-Control", "no-cache"), *answer.headers]


def _no_app(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    text = (
        f"nothing is at {environ.get('PATH_INFO', '')!a}: no app was given. With pytest, "
        "override the fixture channel_app so that it returns the app's WSGI callable.\n"
    ).encode()
    headers = [("Content-Type", "text/plain; charset=utf-8"), ("Content-Length", str(len(text)))]
    start_response("404 Not Found", headers)
    return [text]
