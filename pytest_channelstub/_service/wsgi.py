"""A request made to a WSGI app in this process."""

from __future__ import annotations

import io
import sys
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode
from wsgiref.util import setup_testing_defaults

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


# A failure points at the line of the test, not at ours.
__tracebackhide__ = True


def post_form(
    app: Callable[..., Any], path: str, fields: Mapping[str, str], remote_address: str
) -> str:
    """POST a form to an app, and read its answer to the end.

    Args:
        app: A WSGI callable.
        path: The URL's path.
        fields: The form.
        remote_address: What the app sees as `REMOTE_ADDR`.

    Returns:
        The status line's code and reason, such as `"200 OK"`.

    Raises:
        Exception: Whatever the app raises.
        AssertionError: The app never called `start_response`, or with no status code.
    """
    started: list[str] = []

    def start_response(status: str, *_: Any) -> Callable[..., object]:
        started.append(status)
        return lambda _: None

    # The SDK's stub takes any text for a client id, also one that UTF-8 cannot hold.
    form = urlencode(fields, errors="surrogatepass").encode("ascii")
    answer = app(_environ(path, form, remote_address), start_response)
    try:
        for _ in answer:
            pass
    finally:
        close = getattr(answer, "close", None)
        if close is not None:
            close()
    if not started:
        message = f"the app answered POST {path} without calling start_response"
        raise AssertionError(message)
    if not started[-1][:3].isdecimal():
        message = (
            f"the app answered POST {path} with the status {started[-1]!r}: call "
            "start_response with a code and a reason, such as '200 OK'"
        )
        raise AssertionError(message)
    return started[-1]


def _environ(path: str, body: bytes, remote_address: str) -> dict[str, Any]:
    environ: dict[str, Any] = {
        "REQUEST_METHOD": "POST",
        "PATH_INFO": path,
        "QUERY_STRING": "",
        "CONTENT_TYPE": "application/x-www-form-urlencoded",
        "CONTENT_LENGTH": str(len(body)),
        "REMOTE_ADDR": remote_address,
        "SERVER_PROTOCOL": "HTTP/1.1",
        "wsgi.input": io.BytesIO(body),
        "wsgi.errors": sys.stderr,
    }
    setup_testing_defaults(environ)
    return environ
