"""The service's endpoints, for any WSGI server."""

from __future__ import annotations

import re
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

from pytest_channelstub._record.formatting import describe_type
from pytest_channelstub._record.frames import hide_frame
from pytest_channelstub._service.stub import ChannelServiceStub
from pytest_channelstub._service.wsgi import check_app
from pytest_channelstub._tokens import InvalidTokenError, TokenTimedOutError
from pytest_channelstub.web.long_poll import READER, Page, Query, find_page

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


class ChannelMiddleware:
    """Answers under `/_ah/channel/` for a stub; hands every other path to the app.

    `jsapi` is the page's script; `dev` takes the commands `connect`, `poll` and
    `disconnect`, and answers as the SDK's dev server did. A poll with `wait=SECONDS` is
    held for so long, in real time, or until there is something to say. Where
    `wsgi.multithread` is false no poll is held: a server of one thread would answer nobody else.

    Pages of other origins are answered if they are of this machine: another port of
    127.0.0.1 or localhost.

    Example:
        >>> app = ChannelMiddleware(stub, my_app)
        >>> webtest.TestApp(app).get("/_ah/channel/jsapi")

    Args:
        stub: The service. One of your own needs the methods that the requests call:
            `connect_channel`, `connect_and_pop_first_message`,
            `validate_token_and_extract_client_id` and `disconnect` or
            `disconnect_channel_event`.
        app: The WSGI app that has all other paths; or None.

    Raises:
        TypeError: `stub` is not a stub, or `app` is not a WSGI callable.

    Attributes:
        stub: As given.
        app: As given; may be assigned.
    """

    def __init__(self, stub: ChannelServiceStub, app: Callable[..., Any] | None = None) -> None:
        if not hasattr(stub, "connect_channel"):
            instead = "channel_stub, and the app after it"
            raise TypeError(describe_type("stub", stub, instead))
        check_app(app)
        self.stub = stub
        self.app = app
        self._stopping = threading.Event()

    def __call__(self, environ: dict[str, Any], start_response: StartResponse) -> Iterable[bytes]:
        """Answer a request, as WSGI has it."""
        path, cors = environ.get("PATH_INFO", ""), _cors_headers(environ)
        if path not in (DEV, JSAPI):
            start = _add_headers(start_response, cors) if path == RECEIVE else start_response
            return (_no_app if self.app is None else self.app)(environ, start)
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
        sent = environ.get("QUERY_STRING", "").encode("latin-1", "replace")
        parsed = parse_qs(sent.decode("utf-8", "replace"), keep_blank_values=True)
        fields = {name: values[0] for name, values in parsed.items()}
        commands = {"connect": self._connect, "poll": self._poll, "disconnect": self._disconnect}
        try:
            command, query = commands[fields["command"]], self._read_query(environ, fields)
        except (KeyError, ValueError):
            return _Answer(status="400 Bad Request")
        try:
            return command(query)
        except InvalidTokenError:
            return _Answer(status="401 Invalid+token.")
        except TokenTimedOutError:
            return _Answer(status="401 Token+timed+out.")

    def _connect(self, query: Query) -> _Answer:
        if query.page:
            Page(self.stub, query).connect(query)
        else:
            self.stub.connect_channel(query.token)
        return _Answer(b"1", "text/plain")

    def _poll(self, query: Query) -> _Answer:
        message = self._take_message(query)
        if message is None:
            return _Answer()
        # What is no text for UTF-8, half a surrogate pair, becomes a question mark.
        return _Answer(message.encode("utf-8", "replace"), "application/json")

    def _take_message(self, query: Query) -> str | None:
        if not isinstance(self.stub, ChannelServiceStub):
            return self.stub.connect_and_pop_first_message(query.token)
        if query.page:
            page = find_page(self.stub, query)
            if page is None:  # it is of an earlier test, or it has left
                self.stub.validate_token_and_extract_client_id(query.token)
                return None
            return page.poll(query)
        if query.wait:
            return Page(self.stub, query).poll(query)
        return self.stub._poll(query.token, READER)

    def _disconnect(self, query: Query) -> _Answer:
        client_id = self.stub.validate_token_and_extract_client_id(query.token)
        if not query.page:
            # The SDK's stub has the second alone.
            is_sdks = not hasattr(self.stub, "disconnect")
            (self.stub.disconnect_channel_event if is_sdks else self.stub.disconnect)(client_id)
        elif page := find_page(self.stub, query):
            page.leave()
        return _Answer()

    def _read_query(self, environ: dict[str, Any], fields: dict[str, str]) -> Query:
        # Somebody's own stub knows no pages, and does not say when a message comes. A server
        # of one thread would answer nobody else while it holds a poll.
        page = fields.get("page", "") if isinstance(self.stub, ChannelServiceStub) else ""
        wait = _seconds(fields, "wait", _LONGEST_HOLD)
        next_poll_within = _seconds(fields, "next_poll_within", _LONGEST_PAUSE)
        return Query(
            token=fields["channel"],
            page=page,
            wait=wait if environ.get("wsgi.multithread", True) else 0,
            next_poll_within=next_poll_within if page else 0,
            connection=environ.get("werkzeug.socket") or environ.get("gunicorn.socket"),
            stopping=self._stopping,
        )


def _seconds(fields: dict[str, str], name: str, longest: float) -> float:
    text = fields.get(name) or "0"
    # Plain digits: float() would take "nan" as well.
    if not re.fullmatch(r"\d+(\.\d*)?|\.\d+", text, re.ASCII):
        raise ValueError
    return min(float(text), longest)


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
