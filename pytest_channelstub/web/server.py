"""The live server: the service and the app, for real browsers."""

from __future__ import annotations

import contextlib
import ipaddress
import logging
import os
import socket
import sys
import threading
import warnings
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode, urlsplit
from weakref import WeakKeyDictionary

from pytest_channelstub._record.formatting import describe_type, shorten_repr
from pytest_channelstub._record.frames import caller, hide_frame
from pytest_channelstub._service.clock import real_monotonic
from pytest_channelstub._service.delivery import ChannelAppWarning, warn
from pytest_channelstub._service.wsgi import LONGEST_READ, Answer, find_line, plain_text
from pytest_channelstub.web.long_poll import has_ended
from pytest_channelstub.web.middleware import ChannelMiddleware

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Self

    from pytest_channelstub._record.timeline import Source
    from pytest_channelstub._service.stub import ChannelServiceStub

try:
    from werkzeug.serving import ThreadedWSGIServer, WSGIRequestHandler
except ImportError as _error:
    raise ImportError(
        "channel_server needs Werkzeug, which is not installed: "
        "pip install 'pytest-channelstub[server]'"
    ) from _error

# pytest's tracebacks: see hide_frame.
__tracebackhide__ = hide_frame

_log = logging.getLogger(__name__)
# How long a stop waits for requests under way, and then for those that it has cut off.
_FINISH_WITHIN = 0.3  # seconds
_END_WITHIN = 0.2  # seconds
# How often the thread that serves looks whether to stop; a run stops a server in each test.
_STOP_WITHIN = 0.01  # seconds
_LOOK_AT_CLOCK = 0.1  # seconds
_BACKLOG = 256
_SERVER_ERROR = 500


class ChannelServer:
    """Serves `ChannelMiddleware(stub, app)` from threads of this process.

    While it is up the app hears who connects and disconnects, unless the stub has an
    app of its own, and clients time out by themselves on the system's clock.

    Example:
        >>> with ChannelServer(stub, app) as server:
        ...     browser_page.goto(server.url_for("/chat", user="alice"))

    Args:
        stub: The service.
        app: The app's WSGI callable, or None.
        port: The port; 0 for one that is free.
        host: The address to listen on, for a browser in a container.

    Raises:
        OSError: The port is taken or no port, or the address is not one of this machine.
        TypeError: The app is not a WSGI callable, or an argument of another type.
        ValueError: `host` is empty.

    Warns:
        UserWarning: Other machines can reach the address.

    Attributes:
        host: As given.
        port: The port.
        url: `http://HOST:PORT`, without a slash at its end.
    """

    def __init__(
        self,
        stub: ChannelServiceStub,
        app: Callable[..., Any] | None = None,
        port: int = 0,
        host: str = "127.0.0.1",
    ) -> None:
        self._middleware = ChannelMiddleware(stub, app)
        self._stub = stub
        self._errors: list[BaseException] = []
        origin = caller()
        # The line to which a warning points; under pytest, of the test that is under way.
        self._find_origin: Callable[[], Source | None] = lambda: origin
        self._lends_app = stub.app is None and app is not None
        with _listen(host, port) as listening:
            _warn_of_others(host, listening)
            if self._lends_app:
                stub.app = app
            self._server = _Server(listening, self._answer_request)
        self.host: str = host
        self.port: int = int(self._server.port)
        self.url: str = f"http://{f'[{host}]' if ':' in host else host}:{self.port}"
        self._stopped = threading.Event()
        self._threads = [self._start_thread(self._server.serve_forever, _STOP_WITHIN)]
        if not stub.clock._is_own:
            self._threads.append(self._start_thread(self._run_due_timers))

    def __repr__(self) -> str:
        return f"<ChannelServer {self.url}>"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.stop()

    def url_for(self, path: str = "/", **query: object) -> str:
        """The whole URL of a path of the app.

        Args:
            path: The path, with or without its first slash; characters that a URL does
                not take are quoted.
            query: Parameters, each a value or a list of values; quoted likewise.

        Raises:
            TypeError: `path` is not a str.
        """
        if not isinstance(path, str):
            raise TypeError(describe_type("path", path, "a str, such as '/chat'"))
        place, mark, fragment = path.partition("#")
        if query:
            place += f"{'&' if '?' in place else '?'}{urlencode(query, doseq=True)}"
        quoted = quote(f"{place}{mark}{fragment}".removeprefix("/"), safe="/%:@!$&()*+,;=~?#")
        return f"{self.url}/{quoted}"

    def take_errors(self) -> list[BaseException]:
        """The exceptions that the app raised since the last call, in order.

        After a test that passed the first one is raised; a test that expects them takes
        them with this.
        """
        errors = self._errors.copy()
        del self._errors[: len(errors)]
        return errors

    def stop(self) -> None:
        """Stop within a second, polls that are held or not; stopping again does nothing.

        Warns:
            ResourceWarning: A request to the app has not come to its end.
        """
        # In a forked process the thread that serves is not there.
        if self._stopped.is_set() or not self._threads[0].is_alive():
            return
        self._stopped.set()
        self._server.shutdown()
        self._middleware.stop()
        left = self._server.finish()
        for thread in self._threads:
            thread.join(_END_WITHIN)
        if self._lends_app and self._stub.app is self._middleware.app:
            self._stub.app = None
        if left:
            warnings.warn(
                f"{left} request(s) to the app were still under way when channel_server "
                "stopped: their threads go on in the background",
                ResourceWarning,
                stacklevel=2,
            )

    def _answer_request(self, environ: dict[str, Any], start_response: Any) -> Iterator[bytes]:
        """Pass on what the app answers, and keep what goes wrong with that."""
        # Werkzeug has a number here, where PEP 3333 wants a str.
        environ["REMOTE_PORT"] = str(environ["REMOTE_PORT"])
        has_body = environ["REQUEST_METHOD"] != "HEAD"
        answer = Answer(self._middleware, environ, start_response)
        report = b""
        try:
            with contextlib.closing(iter(answer)) as parts:
                for part in parts:
                    if answer.code >= _SERVER_ERROR:
                        report += part
                    elif has_body:
                        yield part
            if answer.code >= _SERVER_ERROR:
                # Before the browser has the answer: the test may end as soon as it has.
                self._record_error(answer, plain_text(report[:LONGEST_READ]))
                yield report if has_body else b""
        except GeneratorExit:
            raise
        except BaseException as error:
            if isinstance(error, ConnectionError) and has_ended(environ.get("werkzeug.socket")):
                raise  # the browser's doing, and no fault of the app's
            self._errors.append(error)
            where = "in the test's report, or where the server prints"
            text = f"the app raised {type(error).__name__}: its traceback is {where}\n"
            headers = [("Content-Type", "text/plain; charset=utf-8")]
            start_response("500 Internal Server Error", headers, sys.exc_info())
            yield text.encode() if has_body else b""

    def _record_error(self, answer: Answer, text: str) -> None:
        """Record and warn of an answer with which a framework reports an exception."""
        request, status, quoted = answer.request, answer.status, shorten_repr(text)
        outcome = f"{status}: {quoted}" if text else status
        failure = ("request", None, request, outcome)
        self._stub._step(self._stub._plan_failure, *failure, needs_open=False)
        began = f", which began {quoted}" if text else ""
        message = (
            f"the app answered {status!r} to {request}{began}: have the framework let the "
            "exception through, so that the test fails with its traceback"
        )
        try:
            warn(message, find_line(self._middleware.app, self._find_origin()))
        except ChannelAppWarning as warning:  # a filter makes it an error
            self._errors.append(warning)

    def _start_thread(self, target: Callable[..., object], *args: object) -> threading.Thread:
        thread = threading.Thread(target=target, args=args, name="channel_server", daemon=True)
        thread.start()
        return thread

    def _run_due_timers(self) -> None:
        """Have clients time out on a clock that moves by itself."""
        while not self._stopped.wait(_LOOK_AT_CLOCK):
            try:
                self._stub._touch()
            except Exception as error:  # noqa: BLE001 (of the app's handlers)
                self._errors.append(error)


class _Server(ThreadedWSGIServer):
    """Knows its threads and their connections, to end them when it stops."""

    def __init__(self, listening: socket.socket, app: Callable[..., Any]) -> None:
        # Werkzeug, where it opens the socket itself, looks up this machine's name, and
        # ends the process if the port is taken.
        host, port = listening.getsockname()[:2]
        super().__init__(host, port, app, _Handler, fd=listening.fileno())
        # The threads that have read a request and not answered it yet.
        self.answering: set[threading.Thread] = set()
        # A thread that has ended leaves it by itself.
        self._connections = WeakKeyDictionary[threading.Thread, socket.socket]()

    def process_request(self, request: Any, client_address: Any) -> None:
        """Answer a connection from a thread of its own."""
        thread = threading.Thread(
            target=self.process_request_thread,
            args=(request, client_address),
            name="channel_server-request",
            daemon=True,
        )
        self._connections[thread] = request
        thread.start()

    def finish(self) -> int:
        """Let the answers under way come to their end, cut off the others; how many are left."""
        threads = {*self._connections}
        idle = threads - self.answering
        for unwanted, seconds in ((idle, _FINISH_WITHIN), (threads, _END_WITHIN)):
            for thread in unwanted:
                with contextlib.suppress(OSError):  # closed already
                    self._connections[thread].shutdown(socket.SHUT_RDWR)
            until = real_monotonic() + seconds
            for thread in threads:
                thread.join(max(0.0, until - real_monotonic()))
        return sum(thread.is_alive() for thread in threads)


class _Handler(WSGIRequestHandler):
    """Reads a request; garbage is refused, and nothing is printed."""

    server: _Server

    def run_wsgi(self) -> None:
        """Have the app answer."""
        try:
            urlsplit(self.path)
        except ValueError:
            self.send_error(400, "Bad request target")
            return
        # What was not quoted has been read as Latin-1, which Werkzeug encodes once more.
        self.path = quote(self.path, safe="".join(map(chr, range(128))), encoding="latin-1")
        thread = threading.current_thread()
        self.server.answering.add(thread)
        try:
            super().run_wsgi()
        finally:
            self.server.answering.discard(thread)

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        """Log an answer; Werkzeug's own way fails where the target is not a URL."""
        self.log("info", "%r %s", self.requestline, code)

    def log(self, type: str, message: str, *args: Any) -> None:  # noqa: A002 (Werkzeug's name)
        """Log at the level DEBUG."""
        _log.debug(message, *args)


def _listen(host: str, port: int) -> socket.socket:
    if not isinstance(host, str):
        raise TypeError(describe_type("host", host, "a name or an address, such as '127.0.0.1'"))
    if not host:
        message = "host is empty: pass a name or an address, such as '127.0.0.1'"
        raise ValueError(message)
    if isinstance(port, bool) or not isinstance(port, int):
        raise TypeError(describe_type("port", port, "a number, or 0 for a port that is free"))
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    try:
        # Elsewhere than on POSIX it would share a port that is taken.
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, os.name == "posix")
        listening.bind((host, port))
        listening.listen(_BACKLOG)
    except (OSError, OverflowError, TypeError, UnicodeError) as error:
        listening.close()
        reason = getattr(error, "strerror", None) or str(error)
        if isinstance(error, OverflowError):
            reason = "a port is a number from 0 to 65535"
        text = f"channel_server cannot listen on port {port} of {host}: {reason}"
        raise OSError(text) from None
    return listening


def _warn_of_others(host: str, listening: socket.socket) -> None:
    if not ipaddress.ip_address(listening.getsockname()[0]).is_loopback:
        warnings.warn(
            f"channel_server listens on {host}, which other machines can reach, and answers "
            "them too: use 127.0.0.1 unless the browser runs elsewhere",
            stacklevel=3,
        )
