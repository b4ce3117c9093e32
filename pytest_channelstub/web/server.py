"""The live server: the service and the app, for real browsers, on 127.0.0.1."""

from __future__ import annotations

import contextlib
import logging
import os
import selectors
import socket
import sys
import threading
import warnings
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode, urlsplit

from pytest_channelstub._service.clock import real_monotonic as monotonic
from pytest_channelstub.web.lookout import has_ended
from pytest_channelstub.web.middleware import ChannelMiddleware

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from types import TracebackType
    from typing import Self

    from pytest_channelstub._service.stub import ChannelServiceStub

try:
    from werkzeug.serving import ThreadedWSGIServer, WSGIRequestHandler
except ImportError as error:
    message = (
        "channel_server needs Werkzeug, which is not installed: "
        "pip install 'pytest-channelstub[server]'"
    )
    raise ImportError(message) from error

HOST = "127.0.0.1"

_log = logging.getLogger(__name__)
# Answers under way get so long to finish, then so long to notice that they are cut off.
_FINISH_WITHIN = 0.3
_END_WITHIN = 0.2
_BACKLOG = 256


class ChannelServer:
    """Serves `ChannelMiddleware(stub, app)` from threads of this process.

    Example:
        >>> with ChannelServer(stub, app) as server:
        ...     browser_page.goto(server.url_for("/chat", user="alice"))

    Args:
        stub: The service.
        app: The app's WSGI callable, or None.
        port: The port; 0 for one that is free.

    Raises:
        OSError: The port is taken.

    Attributes:
        host: Always `127.0.0.1`.
        port: The port.
        url: `http://127.0.0.1:PORT`, without a slash at its end.
        middleware: What it serves.
        errors: The exceptions that the app raised, in order. After a test that passed
            the first one is raised; a test that expects them empties the list.
    """

    def __init__(
        self, stub: ChannelServiceStub, app: Callable[..., Any] | None = None, port: int = 0
    ) -> None:
        self.middleware = ChannelMiddleware(stub, app)
        self.errors: list[BaseException] = []
        with _listen(port) as listening:
            self._server = _Server(listening, _Recorder(self.middleware, self.errors))
        self._bell, self._ear = socket.socketpair()
        self.host: str = HOST
        self.port = int(self._server.port)
        self.url = f"http://{self.host}:{self.port}"
        self._thread = threading.Thread(target=self._serve, name="channel_server", daemon=True)
        self._thread.start()

    def __repr__(self) -> str:
        return f"<ChannelServer {self.url}>"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    def url_for(self, path: str = "/", **query: object) -> str:
        """The whole URL of a path of the app.

        Args:
            path: The path, with or without its first slash; characters that a URL does
                not take are quoted.
            query: Parameters, each a value or a list of values; quoted likewise.
        """
        url = f"{self.url}/{quote(path.removeprefix('/'), safe='/%:@!$&()*+,;=~?#')}"
        if not query:
            return url
        return f"{url}{'&' if '?' in path else '?'}{urlencode(query, doseq=True)}"

    def take_errors(self) -> list[BaseException]:
        """The exceptions that the app raised since the last call, in order."""
        errors = self.errors.copy()
        del self.errors[: len(errors)]
        return errors

    def stop(self) -> None:
        """Stop within a second, polls that are held or not; stopping again does nothing.

        Warns:
            ResourceWarning: A request to the app has not come to its end.
        """
        if not self._thread.is_alive():
            return
        self._bell.send(b"!")
        self._thread.join()
        self._bell.close()
        self._ear.close()
        self.middleware.stop()
        left = self._server.finish()
        if left:
            text = (
                f"{left} request(s) to the app were still under way when channel_server "
                "stopped: their threads go on in the background"
            )
            warnings.warn(text, ResourceWarning, stacklevel=2)

    def _serve(self) -> None:
        # Not serve_forever: that looks twice a second whether it shall stop.
        with selectors.DefaultSelector() as selector:
            selector.register(self._server.socket, selectors.EVENT_READ)
            selector.register(self._ear, selectors.EVENT_READ)
            while all(key.fileobj is not self._ear for key, _ in selector.select()):
                self._server.handle_request()
        self._server.server_close()


class _Server(ThreadedWSGIServer):
    """Knows its threads and their connections, to end them when it stops.

    Attributes:
        answering: The threads that have read a request and not answered it yet.
    """

    def __init__(self, listening: socket.socket, app: Callable[..., Any]) -> None:
        # Werkzeug, where it opens the socket itself, looks up this machine's name, and
        # ends the process if the port is taken.
        host, port = listening.getsockname()
        super().__init__(host, port, app, _Handler, fd=listening.fileno())
        self.answering: set[threading.Thread] = set()
        self._lock = threading.Lock()
        self._workers: set[threading.Thread] = set()
        self._open: dict[threading.Thread, socket.socket] = {}

    def process_request(self, request: Any, client_address: Any) -> None:
        """Answer a connection from a thread of its own."""
        thread = threading.Thread(
            target=self.process_request_thread,
            args=(request, client_address),
            name="channel_server-request",
            daemon=True,
        )
        with self._lock:
            # A thread has closed its connection a little before it ends: both are kept track of.
            self._workers = {each for each in self._workers if each.is_alive()}
            self._open[thread] = request
        thread.start()
        self._workers.add(thread)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Answer a connection, and close it."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            with self._lock:
                del self._open[threading.current_thread()]

    def finish(self) -> int:
        """Let the answers under way come to their end, and cut off all that does not.

        Returns:
            How many threads are left.
        """
        self._cut_off(set(self._open) - self.answering)
        self._join(_FINISH_WITHIN)
        self._cut_off(set(self._open))
        self._join(_END_WITHIN)
        return sum(thread.is_alive() for thread in self._workers)

    def _cut_off(self, threads: set[threading.Thread]) -> None:
        with self._lock:
            for thread in threads & set(self._open):
                with contextlib.suppress(OSError):  # closed already
                    self._open[thread].shutdown(socket.SHUT_RDWR)

    def _join(self, timeout: float) -> None:
        until = monotonic() + timeout
        for thread in self._workers:
            thread.join(max(0.0, until - monotonic()))


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
        thread = threading.current_thread()
        self.server.answering.add(thread)
        try:
            super().run_wsgi()
        finally:
            self.server.answering.discard(thread)

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        """Log an answer; Werkzeug's own way reads the target as a URL, and fails if it is none."""
        self.log("info", "%r %s", self.requestline, code)

    def log(self, type: str, message: str, *args: Any) -> None:  # noqa: A002
        """Log for who turns the level down to DEBUG."""
        _log.debug(message, *args)


class _Recorder:
    """Hands requests on, and keeps what is raised on the way."""

    def __init__(self, app: Callable[..., Any], errors: list[BaseException]) -> None:
        self._app = app
        self._errors = errors

    def __call__(
        self, environ: dict[str, Any], start_response: Callable[..., Any]
    ) -> Iterator[bytes]:
        __tracebackhide__ = True
        try:
            answer: Iterable[bytes] = self._app(environ, start_response)
            try:
                yield from answer
            finally:
                if hasattr(answer, "close"):
                    answer.close()
        except GeneratorExit:
            raise
        except BaseException as error:
            if isinstance(error, ConnectionError) and has_ended(environ.get("werkzeug.socket")):
                raise  # the browser's doing, and no fault of the app's
            self._errors.append(error)
            text = f"the app raised {type(error).__name__}; the test fails with its traceback\n"
            headers = [("Content-Type", "text/plain; charset=utf-8")]
            start_response("500 Internal Server Error", headers, sys.exc_info())
            yield text.encode()


def _listen(port: int) -> socket.socket:
    listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        # Elsewhere than on POSIX it would share a port that is taken.
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, os.name == "posix")
        listening.bind((HOST, port))
        listening.listen(_BACKLOG)
    except OSError as error:
        listening.close()
        text = f"channel_server cannot listen on port {port} of {HOST}: {error.strerror}"
        raise OSError(error.errno, text) from None
    return listening
