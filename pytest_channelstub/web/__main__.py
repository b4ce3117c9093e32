"""A development server: serves an app with its channels, as dev_appserver did."""

from __future__ import annotations

import argparse
import importlib
import signal
import sys
import threading
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_channelstub._appengine import importing
from pytest_channelstub._record.formatting import format_exception
from pytest_channelstub._record.timeline import to_event
from pytest_channelstub._service.apiproxy import call_locked
from pytest_channelstub._service.stub import ChannelServiceStub

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pytest_channelstub.web.server import ChannelServer

_LOOK_AGAIN = 0.25  # seconds


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve an app until Ctrl-C or SIGTERM; 1 if it cannot be loaded, or the port cannot be had."""
    options = _parse(arguments)
    # `from google.appengine.api import channel` works in the app, with an SDK or without.
    installation = importing.install("always")
    try:
        with ChannelServiceStub() as stub:
            return _serve(stub, options)
    finally:
        installation.undo()


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m pytest_channelstub.web",
        description="Serve a WSGI app with its channels, on the system's clock, and print each "
        "event as it happens. Ctrl-C stops it; so does SIGTERM, from kill.",
    )
    parser.add_argument(
        "app", metavar="MODULE:APP", help="the app, such as chat:app; a factory as chat:make_app()"
    )
    parser.add_argument(
        "--port", type=int, default=8080, help="0 for one that is free (default: %(default)s)"
    )
    parser.add_argument("--host", default="127.0.0.1", help="(default: %(default)s)")
    options = parser.parse_args(arguments)
    if ":" not in options.app:
        parser.error(f"{options.app!r} names no app: pass MODULE:APP, such as {options.app}:app")
    return options


def _serve(stub: ChannelServiceStub, options: argparse.Namespace) -> int:
    try:
        from pytest_channelstub.web.server import ChannelServer  # noqa: PLC0415 (an extra)

        stub.app = _load(options.app)
        server = ChannelServer(stub, stub.app, options.port, options.host)
    except (ImportError, OSError, TypeError, ValueError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    stopped = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        # A KeyboardInterrupt could cut short what is being printed.
        signal.signal(number, lambda *_: stopped.set())
    with server:
        _write(f"{options.app} is at {server.url} until Ctrl-C.")
        _follow(stub, server, stopped)
    _write("Stopped.")
    return 0


def _load(name: str) -> Callable[..., Any]:
    module_name, _, path = name.partition(":")
    sys.path.insert(0, str(Path.cwd()))
    try:
        app: Any = importlib.import_module(module_name)
        for attribute in path.removesuffix("()").split("."):
            app = getattr(app, attribute)
        return app() if path.endswith("()") else app  # type: ignore[no-any-return]  # the stub checks it
    except Exception as error:  # noqa: BLE001 (a module's code raises anything)
        frame = traceback.extract_tb(error.__traceback__)[-1]
        is_of_app = Path(frame.filename).is_file() and frame.filename != __file__
        where = f" ({frame.filename}:{frame.lineno})" if is_of_app else ""
        raise ImportError(f"cannot import {name}: {format_exception(error)}{where}") from None


def _follow(stub: ChannelServiceStub, server: ChannelServer, stopped: threading.Event) -> None:
    """Print what happens, in order, each event once the app has answered what follows from it."""
    count, is_last = 0, False
    while not is_last:
        is_last = stopped.is_set()
        if is_last:
            server.stop()  # what requests have done until then is printed too
        seen = stub._progress()
        for row in stub.timeline._rows[count:]:
            if not (is_last or row.answer is None or row.answer.is_answered):
                break
            _write(str(to_event(row)))
            count += 1
        for error in server.take_errors():
            traceback.print_exception(error)
        if not is_last:
            call_locked(stub._lock, stub._wait_for_progress, seen, _LOOK_AGAIN)


def _write(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
