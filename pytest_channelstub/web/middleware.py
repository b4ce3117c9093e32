"""The service's endpoints, for any WSGI server."""

from __future__ import annotations

import re
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

from pytest_channelstub._record.formatting import hide_frame
from pytest_channelstub._service.stub import ChannelServiceStub
from pytest_channelstub._tokens import InvalidTokenError, TokenTimedOutError
from pytest_channelstub.web.long_poll import READER, Page, find_page, has_ended, hold_poll

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    Headers = list[tuple[str, str]]
    StartResponse = Callable[..., Any]

# pytest's tracebacks: see hide_frame.
__tracebackhide__ = hide_frame

DEV = "/_ah/channel/dev"
JSAPI = "/_ah/channel/jsapi"
RECEIVE = "/_ah/channel/receive"
_SCRIPT = Path(__file__).with_name("channel.js")

_LONGEST_HOLD = 30.0  # seconds
_LONGEST_PAUSE = 3600.0  # seconds; a page may poll as seldom as it likes
_LOCAL_HOSTS = ("127.0.0.1", "localhost", "::1")


@dataclass(frozen=True, slots=True)
class _Answer:
    body: bytes = b""
    content_type: str = ""
    headers: tuple[tuple[str, str], ...] = ()
    status: str = "200 OK"


@dataclass(frozen=True, slots=True)
class _Query:
    token: str
    page: str  # what the page calls itself; empty for a client that is not our script
    wait: float  # real seconds
    next_poll_within: float  # real seconds
    connection: Any  # where the answer goes; None where the server does not show it


class ChannelMiddleware:
    """Answers under `/_ah/channel/` for a stub; hands every other path to the app.

    `jsapi` is the page's script; `dev` takes the commands `connect`, `poll` and
    `disconnect`, and answers as the SDK's dev server did. A poll with `wait=SECONDS` is
    held for so long, in real time, or until there is something to say. A server with one
    thread, whose `wsgi.multithread` is false, is not held.

    Pages of other origins are answered if they are of this machine: another port of
    127.0.0.1 or localhost.

    Example:
        >>> app = ChannelMiddleware(stub, my_app)
        >>> webtest.TestApp(app).get("/_ah/channel/jsapi")

    Args:
        stub: The service. One of your own needs the methods that the requests call:
            `connect_channel`, `connect_and_pop_first_message`,
            `validate_token_and_extract_client_id` and `disconnect`.
        app: The WSGI app that has all other paths; or None.

    Attributes:
        stub: As given.
        app: As given; may be assigned.
    """

    def __init__(self, stub: ChannelServiceStub, app: Callable[..., Any] | None = None) -> None:
        self.stub = stub
        self.app = app
        self._stopping = threading.Event()

    def __call__(self, environ: dict[str, Any], start_response: StartResponse) -> Iterable[bytes]:
        """Answer a request, as WSGI has it."""
        path, cors = environ.get("PATH_INFO", ""), _cors_headers(environ)
        if path not in (DEV, JSAPI):
            start = _add_headers(start_response, cors) if path == RECEIVE else start_response
            return (self.app or _no_app)(environ, start)
        method = environ.get("REQUEST_METHOD")
        if method == "OPTIONS" and cors and "HTTP_ACCESS_CONTROL_REQUEST_METHOD" in environ:
            answer = _Answer(headers=(("Access-Control-Allow-Methods", "GET"),))
        elif method != "GET":
            answer = _Answer(status="405 Method Not Allowed", headers=(("Allow", "GET"),))
        elif path == JSAPI:
            answer = _Answer(_SCRIPT.read_bytes(), "text/javascript")
        else:
            answer = self._command(environ)
        kind = [("Content-Type", answer.content_type)] if answer.content_type else []
        length = ("Content-Length", str(len(answer.body)))
        headers = [*kind, length, ("Cache-Control", "no-cache"), *answer.headers, *cors]
        start_response(answer.status, headers)
        return [answer.body]

    def stop(self) -> None:
        """Have every held poll answered; none is held again."""
        self._stopping.set()
        if isinstance(self.stub, ChannelServiceStub):
            with self.stub._lock:
                self.stub._changed.notify_all()
            for page in [*self.stub._pages.values()]:
                page.end()

    def _command(self, environ: dict[str, Any]) -> _Answer:
        # WSGI hands over bytes as Latin-1; a page that did not quote sent UTF-8.
        query = environ.get("QUERY_STRING", "").encode("latin-1", "replace")
        fields = parse_qs(query.decode("utf-8", "replace"), keep_blank_values=True)
        commands = {"connect": self._connect, "poll": self._poll, "disconnect": self._disconnect}
        try:
            command, query = commands[fields["command"][0]], self._read_query(environ, fields)
        except (KeyError, ValueError):
            return _Answer(status="400 Bad Request")
        try:
            return command(query)
        except InvalidTokenError:
            return _Answer(status="401 Invalid+token.")
        except TokenTimedOutError:
            return _Answer(status="401 Token+timed+out.")

    def _connect(self, query: _Query) -> _Answer:
        if query.page:
            page = Page(self.stub, query.token, query.page)
            page.connect(lambda: self._next_poll_within(query))
        else:
            self.stub.connect_channel(query.token)
        return _Answer(b"1", "text/plain")

    def _poll(self, query: _Query) -> _Answer:
        if not isinstance(self.stub, ChannelServiceStub):
            return _message(self.stub.connect_and_pop_first_message(query.token))
        if query.page:
            return _message(self._poll_as_page(query))
        if not query.wait:
            return _message(self.stub._poll(query.token, READER))
        lease = self.stub._keep_alive(query.token)
        try:
            return _message(self._hold(query, lambda: not has_ended(query.connection)))
        finally:
            lease.end()

    def _poll_as_page(self, query: _Query) -> str | None:
        page = find_page(self.stub, query.token, query.page)
        if page is None:  # it is of an earlier test, or it has left
            self.stub.validate_token_and_extract_client_id(query.token)
            return None

        def is_wanted() -> bool:
            return page.is_known() and not has_ended(query.connection)

        with page.request(lambda: self._next_poll_within(query) if is_wanted() else 0):
            return self._hold(query, is_wanted)

    def _hold(self, query: _Query, is_wanted: Callable[[], bool]) -> str | None:
        return hold_poll(self.stub, query.token, query.wait, is_wanted, self._stopping)

    def _disconnect(self, query: _Query) -> _Answer:
        client_id = self.stub.validate_token_and_extract_client_id(query.token)
        if not query.page:
            self.stub.disconnect(client_id)
        elif page := find_page(self.stub, query.token, query.page):
            page.leave()
        return _Answer()

    def _read_query(self, environ: dict[str, Any], fields: dict[str, list[str]]) -> _Query:
        # Somebody's own stub knows no pages, and does not say when a message comes. A server
        # of one thread would answer nobody else while it holds a poll.
        is_own = isinstance(self.stub, ChannelServiceStub)
        may_hold = is_own and environ.get("wsgi.multithread", True)
        wait = _seconds(fields, "wait", _LONGEST_HOLD)
        return _Query(
            token=fields["channel"][0],
            page=fields.get("page", [""])[0] if is_own else "",
            wait=wait if may_hold else 0,
            next_poll_within=_seconds(fields, "next_poll_within", _LONGEST_PAUSE),
            connection=environ.get("werkzeug.socket") or environ.get("gunicorn.socket"),
        )

    def _next_poll_within(self, query: _Query) -> float:
        return 0 if self._stopping.is_set() else query.next_poll_within


def _seconds(fields: dict[str, list[str]], name: str, longest: float) -> float:
    text = fields.get(name, [""])[0] or "0"
    # Plain digits: float() would take "nan" as well.
    if not re.fullmatch(r"\d{1,9}(\.\d{0,9})?|\.\d{1,9}", text, re.ASCII):
        raise ValueError
    return min(float(text), longest)


def _message(message: str | None) -> _Answer:
    if message is None:
        return _Answer()
    # What is no text for UTF-8, half a surrogate pair, becomes a question mark.
    return _Answer(message.encode("utf-8", "replace"), "application/json")


def _cors_headers(environ: dict[str, Any]) -> Headers:
    """The headers with which a page of this machine may read the answer."""
    origin = environ.get("HTTP_ORIGIN", "")
    try:
        is_local = urlsplit(origin).hostname in _LOCAL_HOSTS
    except ValueError:
        return []
    return [("Access-Control-Allow-Origin", origin), ("Vary", "Origin")] if is_local else []


def _add_headers(start_response: StartResponse, more: Headers) -> StartResponse:
    def start(status: str, headers: Headers, *exc_info: Any) -> Any:
        return start_response(status, [*headers, *more], *exc_info)

    return start


def _no_app(environ: dict[str, Any], start_response: StartResponse) -> Iterable[bytes]:
    text = (
        f"nothing is at {environ.get('PATH_INFO', '')!a}: no app was given. With pytest, "
        "override the fixture channel_app so that it returns the app's WSGI callable.\n"
    ).encode()
    headers = [("Content-Type", "text/plain; charset=utf-8"), ("Content-Length", str(len(text)))]
    start_response("404 Not Found", headers)
    return [] if environ.get("REQUEST_METHOD") == "HEAD" else [text]
