"""Frames of calls: what a traceback hides, which line has called us, what still runs."""

from __future__ import annotations

import linecache
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from types import FrameType

    from pytest_channelstub._record.timeline import Source

PACKAGE = f"{Path(__file__).parents[1]}{os.sep}"
"""Where our own code is."""

# Modules between a test or an app and the stub: ours, an SDK's, and those of threads, servers,
# frameworks and their test clients.
_BETWEEN = (
    "pytest_channelstub.", "google.appengine.", "threading", "concurrent.", "asyncio.", "anyio.",
    "socketserver", "http.server", "wsgiref.", "werkzeug.", "flask.", "django.", "starlette.",
    "a2wsgi.", "httpx.", "webob.", "webtest.",
)  # fmt: skip


def hide_frame(excinfo: Any) -> bool:
    """Whether a traceback leaves our frames out, as `__tracebackhide__` asks.

    It does where we refuse something by a `raise`, or warn of it, or where an app's code has
    raised. It shows them where the fault is our own.
    """
    entry = excinfo.traceback[-1]
    is_ours = str(entry.path).startswith(PACKAGE)
    line = linecache.getline(str(entry.path), entry.lineno + 1)
    return not is_ours or line.lstrip().startswith(("raise", "warnings.warn"))


def caller() -> Source | None:
    """The nearest line that is neither of this package nor between it and a test or an app."""
    frame: FrameType | None = sys._getframe(2)
    while frame is not None:
        # The module's name decides for most frames; a module that is run is named __main__.
        if not frame.f_globals.get("__name__", "").startswith(_BETWEEN):
            code = frame.f_code
            if not code.co_filename.startswith(PACKAGE):
                return code, frame.f_lineno
        frame = frame.f_back
    return None


def is_running(frame: FrameType) -> bool:
    """Whether a call has not ended; one that an exception has ended may have left traces."""
    try:
        frame.clear()  # which Python refuses for a running one
    except RuntimeError:
        return True
    return False
