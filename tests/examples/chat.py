"""A chat room on App Engine's Channel API: one room, many users, several tabs each.

Who is present is known from the requests that App Engine makes when a page opens its
channel and when it goes away.

`python -m pytest_channelstub.web chat:app` serves it for a look in a browser.
"""

from __future__ import annotations

import itertools
import json
from collections import deque
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import parse_qs

try:
    from google.appengine.api import channel
except ImportError:  # no App Engine SDK here
    from pytest_channelstub import channel

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from wsgiref.types import StartResponse, WSGIEnvironment

    Form = dict[str, str]
    Message = dict[str, object]

APP_ENGINE = "0.1.0.10"
TOKEN_MINUTES = 60
LONGEST_TEXT = 2000
HISTORY = 20

_TEXT = "text/plain; charset=utf-8"
_JSON = "application/json"


class Refused(Exception):  # noqa: N818 (it is an answer, not a fault)
    """The request gets this status and reason for an answer."""

    def __init__(self, status: HTTPStatus, reason: str) -> None:
        super().__init__(reason)
        self.status = status


class Chat:
    """The chat room, a WSGI callable.

    Each tab has a client id of its own, such as `alice/1`: two pages with the same client id
    would share one queue, and each message would reach only one of them.
    """

    def __init__(self) -> None:
        self.history: deque[Message] = deque(maxlen=HISTORY)
        self._numbers = itertools.count(1)
        self._client_ids: dict[str, str] = {}  # by token
        self._tabs: dict[str, bool] = {}  # whether the tab's channel is open, by client id
        self._routes: dict[tuple[str, str], Callable[[Form], object]] = {
            ("GET", "/"): self._page,
            ("POST", "/join"): self._join,
            ("POST", "/say"): self._say,
            ("GET", "/present"): lambda _: self.present,
            ("POST", "/_ah/channel/connected/"): self._connected,
            ("POST", "/_ah/channel/disconnected/"): self._disconnected,
        }

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Answer one request."""
        try:
            answer = self._answer(environ)
        except Refused as refused:
            return _respond(start_response, refused.status, _TEXT, str(refused).encode())
        if isinstance(answer, bytes):
            return _respond(start_response, HTTPStatus.OK, "text/html; charset=utf-8", answer)
        return _respond(start_response, HTTPStatus.OK, _JSON, json.dumps(answer).encode())

    @property
    def present(self) -> list[str]:
        """The names of those who have a page open, in alphabetical order."""
        return sorted({_name(client_id) for client_id, is_open in self._tabs.items() if is_open})

    def _answer(self, environ: WSGIEnvironment) -> object:
        path = environ["PATH_INFO"]
        route = self._routes.get((environ["REQUEST_METHOD"], path))
        if route is None:
            raise Refused(HTTPStatus.NOT_FOUND, f"there is nothing at {path}")
        if path.startswith("/_ah/") and environ.get("REMOTE_ADDR") != APP_ENGINE:
            raise Refused(HTTPStatus.FORBIDDEN, "only App Engine itself may say that")
        return route(_form(environ))

    def _page(self, _: Form) -> bytes:
        return Path(__file__).with_name("chat.html").read_bytes()

    def _join(self, form: Form) -> Message:
        name = form.get("name", "").strip()
        if not name:
            raise Refused(HTTPStatus.BAD_REQUEST, "tell your name")
        client_id = f"{name}/{next(self._numbers)}"
        try:
            token = channel.create_channel(client_id, duration_minutes=TOKEN_MINUTES)
        except channel.InvalidChannelClientIdError:
            raise Refused(HTTPStatus.BAD_REQUEST, "that name is too long") from None
        self._client_ids[token] = client_id
        self._tabs[client_id] = False
        return {"name": name, "token": token}

    def _say(self, form: Form) -> Message:
        client_id = self._client_ids.get(form.get("token", ""))
        if client_id is None:
            raise Refused(HTTPStatus.FORBIDDEN, "join first")
        text = form.get("text", "")
        if len(text) > LONGEST_TEXT:
            raise Refused(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "make it shorter")
        said: Message = {"said": text, "by": _name(client_id)}
        self._broadcast(said)
        self.history.append(said)
        return said

    def _connected(self, form: Form) -> None:
        client_id = form["from"]
        newcomer = _name(client_id) not in self.present
        self._tabs[client_id] = True
        self._send(client_id, {"present": self.present})
        for message in self.history:
            self._send(client_id, message)
        if newcomer:
            self._broadcast({"joined": _name(client_id)}, but=client_id)

    def _disconnected(self, form: Form) -> None:
        client_id = form["from"]
        was_open = self._tabs.pop(client_id, False)
        if was_open and _name(client_id) not in self.present:
            self._broadcast({"left": _name(client_id)})

    def _broadcast(self, message: Message, *, but: str = "") -> None:
        for client_id in list(self._tabs):
            if client_id != but:
                self._send(client_id, message)

    def _send(self, client_id: str, message: Message) -> None:
        channel.send_message(client_id, json.dumps(message))


def _name(client_id: str) -> str:
    return client_id.rpartition("/")[0]


def _form(environ: WSGIEnvironment) -> Form:
    body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
    return {key: values[-1] for key, values in parse_qs(body.decode()).items()}


def _respond(
    start_response: StartResponse, status: HTTPStatus, content_type: str, body: bytes
) -> Iterable[bytes]:
    headers = [("Content-Type", content_type), ("Content-Length", str(len(body)))]
    start_response(f"{status.value} {status.phrase}", headers)
    return [body]


app = Chat()
