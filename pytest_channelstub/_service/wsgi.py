"""A request to a WSGI app, and its answer, checked."""

from __future__ import annotations

import html
import inspect
import io
import re
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NoReturn
from urllib.parse import urlencode
from wsgiref.util import is_hop_by_hop, setup_testing_defaults

from pytest_channelstub._record.formatting import shorten_repr
from pytest_channelstub._record.frames import hide_frame

if TYPE_CHECKING:
    from collections.abc import Generator

    from pytest_channelstub._record.timeline import Source

# pytest's tracebacks: see hide_frame.
__tracebackhide__ = hide_frame

App = Callable[..., Any]
"""A WSGI callable."""

FORM = ("Content-Type", "application/x-www-form-urlencoded")
# As PEP 3333 has them: ISO-8859-1, without control characters; a header's name is a token.
_TEXT = "[\\x20-\\x7e\\x80-\\xff]*"
_STATUS = re.compile(f"[1-9][0-9][0-9] {_TEXT}")
_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_VALUE = re.compile(_TEXT)
_NO_BODY = (204, 304)
LONGEST_READ = 16_384
_LONGEST_QUOTE = 200


def check_app(app: object, name: str = "the app") -> None:
    """Refuse, by a TypeError, what is neither None nor a WSGI callable."""
    fault = "" if app is None else _find_fault(app)
    if fault:
        raise TypeError(f"{name} is {shorten_repr(app)}, {fault}")


def _find_fault(app: object) -> str:
    """Why something is not a WSGI callable; empty if it is one."""
    if not callable(app):
        return f"of type {type(app).__name__}: pass a WSGI callable, or None for no app"
    call = app if inspect.isroutine(app) else type(app).__call__
    if inspect.iscoroutinefunction(call) or inspect.isasyncgenfunction(call):
        return "an ASGI callable: pass a WSGI callable, such as a2wsgi.ASGIMiddleware(app)"
    if _takes(app, {}, print):
        return ""
    if _takes(app):
        return (
            "which takes no (environ, start_response): it looks like an app factory; pass what it "
            f"returns, {getattr(app, '__name__', type(app).__name__)}()"
        )
    return (
        "which cannot be called with (environ, start_response): pass a WSGI callable; an ASGI app "
        "becomes one with a2wsgi.ASGIMiddleware(app)"
    )


def _takes(function: Callable[..., Any], *arguments: object) -> bool:
    try:
        inspect.signature(function).bind(*arguments)
    except TypeError:
        return False
    except ValueError:  # a built-in without a signature
        return True
    return True


def post_form(app: App, path: str, client_id: str, remote_address: str) -> tuple[str, bytes]:
    """POST a form, in which `from` is the client id, and read the answer to its end.

    Returns:
        The status line, such as `"200 OK"`, and the beginning of the body.

    Raises:
        Exception: What the app raises.
        AssertionError: The app does not keep to PEP 3333.
    """
    # The SDK's stub takes any text for a client id, also text that UTF-8 cannot hold.
    form = urlencode({"from": client_id}, errors="surrogatepass").encode("ascii")
    environ: dict[str, Any] = {
        "REQUEST_METHOD": "POST",
        "SCRIPT_NAME": "",
        "PATH_INFO": path,
        "QUERY_STRING": "",
        "CONTENT_TYPE": FORM[1],
        "CONTENT_LENGTH": str(len(form)),
        "REMOTE_ADDR": remote_address,
        "SERVER_NAME": "localhost",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "wsgi.input": io.BytesIO(form),
        "wsgi.errors": sys.stderr,
    }
    setup_testing_defaults(environ)
    content = bytearray()
    answer = Answer(app, environ, lambda *_: content.extend)
    for part in answer:
        if len(content) < LONGEST_READ:
            content += part
    return answer.status, bytes(content)


class Answer:
    """An app's answer to a request, checked against PEP 3333 while its body is read.

    Args:
        app: A WSGI callable.
        environ: The request.
        start_response: Takes the status line and the headers once they are checked.

    Attributes:
        request: What errors call the request, such as `POST /chat`.
        status: The status line, such as `200 OK`; empty until the app has given it.
        code: Its number, 200.
    """

    def __init__(
        self, app: App, environ: dict[str, Any], start_response: Callable[..., Any]
    ) -> None:
        self.request = f"{environ['REQUEST_METHOD']} {environ['PATH_INFO']}"
        self.status = ""
        self.code = 0
        self._length: int | None = None
        self._sent = 0
        self._app = app
        self._environ = environ
        self._start_response = start_response

    def __iter__(self) -> Generator[bytes, None, None]:
        answer = self._app(self._environ, self._start)
        if isinstance(answer, str) or not hasattr(answer, "__iter__"):
            what = f"returned {shorten_repr(answer)}: return an iterable of bytes"
            self._refuse(f"{what}, such as [b'text']")
        try:
            for part in answer:
                self._check_part(part)
                self._check_started()
                yield part
        finally:
            if hasattr(answer, "close"):
                answer.close()
        self._check_started()
        has_body = self._environ["REQUEST_METHOD"] != "HEAD" and self.code not in _NO_BODY
        if has_body and self._length not in (None, self._sent):
            what = f"has a body of {self._sent:,} bytes, and its Content-Length is {self._length:,}"
            self._refuse(f"{what}: pass the number of bytes in the body")

    def _check_part(self, part: object) -> None:
        if not isinstance(part, bytes):
            what = f"has {shorten_repr(part)}, of type {type(part).__name__}, in its body"
            self._refuse(f"{what}: encode it, so that it is bytes")
        self._sent += len(part)

    def _check_started(self) -> None:
        if not self.status:
            self._refuse("answered without calling start_response(status, headers)")

    def _start(self, status: object, headers: object, exc_info: object = None) -> Any:
        if self.status and exc_info is None:
            self._refuse("called start_response twice: call it once, or pass exc_info")
        if not (exc_info is None or isinstance(exc_info, tuple)):
            what = f"passed {shorten_repr(exc_info)} to start_response as exc_info"
            self._refuse(f"{what}: pass what sys.exc_info() gives")
        if not isinstance(status, str) or not _STATUS.fullmatch(status):
            what = f"answered with the status {shorten_repr(status)}: pass a code and a reason"
            self._refuse(f"{what} in a str of ISO-8859-1, such as '200 OK'")
        if not isinstance(headers, list):
            what = f"answered with headers of type {type(headers).__name__}: pass a list of pairs"
            self._refuse(f"{what}, [('Content-Type', 'text/plain')]")
        for header in headers:
            advice = _find_fault_of_header(header)
            if advice:
                self._refuse(f"answered with the header {shorten_repr(header)}: {advice}")
        self.status, self.code = status, int(status[:3])
        lengths = {name.lower(): value for name, value in headers}
        self._length = int(lengths["content-length"]) if "content-length" in lengths else None
        write = self._start_response(status, headers, exc_info)

        def checked_write(part: Any) -> Any:
            self._check_part(part)
            return write(part)

        return checked_write

    def _refuse(self, what: str) -> NoReturn:
        raise AssertionError(f"the app broke PEP 3333 in its answer to {self.request}: it {what}")


def _find_fault_of_header(header: Any) -> str:
    """What to do about a header that PEP 3333 forbids; empty for any other."""
    is_pair = isinstance(header, tuple) and len(header) == 2  # noqa: PLR2004 (name and value)
    if not is_pair or not all(isinstance(part, str) for part in header):
        return "pass a tuple of two strs"
    name, value = header
    if not _NAME.fullmatch(name):
        return "a header's name is of letters, digits and hyphens"
    if not _VALUE.fullmatch(value):
        return "a header has no line break, no control character and nothing beyond ISO-8859-1"
    if is_hop_by_hop(name):
        return "leave this header to the server"
    if name.lower() == "content-length" and not re.fullmatch("[0-9]+", value):
        return "pass the number of bytes in the body"
    return ""


def find_line(app: App | None, origin: Source | None) -> Source:
    """The line to which a warning of an app points: the app's own, or `origin`.

    Of an app that is an object of a framework, the framework's line would help nobody.
    """
    function = inspect.unwrap(app) if callable(app) else app
    code = getattr(function, "__code__", None) or getattr(type(app).__call__, "__code__", None)
    definition = (find_line.__code__, 1) if code is None else (code, code.co_firstlineno)
    lines = [definition] if origin is None else [definition, origin]
    ours = [line for line in lines if "site-packages" not in line[0].co_filename]
    return (ours or lines)[0]


def plain_text(body: bytes) -> str:
    """The beginning of an answer, without the tags of HTML."""
    text = body.decode("utf-8", "replace")
    text = re.sub(r"<(script|style)\b.*?</\1>", " ", text, flags=re.DOTALL | re.IGNORECASE)
    text = html.unescape(re.sub(r"<[^>]*>", " ", text))
    return " ".join(text.split())[:_LONGEST_QUOTE]
