"""What else runs at this moment: threads of the test or the app, and coroutines that wait."""

from __future__ import annotations

import inspect
import sys
import sysconfig
import threading
import traceback
from typing import TYPE_CHECKING

from pytest_channelstub._record import formatting
from pytest_channelstub._record.frames import PACKAGE

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator
    from types import CodeType

_INSTALLED = [sysconfig.get_path(name) for name in ("stdlib", "purelib", "platlib")]


def find_running_threads(older: Collection[threading.Thread]) -> Iterator[str]:
    """The other threads that run code of the test or the app, or are to: a sentence each."""
    frames = sys._current_frames()
    for thread in threading.enumerate():
        if thread is threading.current_thread() or thread in older:
            continue
        frame = frames.get(thread.ident or 0)
        while frame is not None and not _is_of_the_test(frame.f_code):
            frame = frame.f_back
        later = getattr(getattr(thread, "function", None), "__code__", None)  # of a Timer
        if frame is not None:
            yield f"a thread is still running {_describe(frame.f_code, frame.f_lineno)}"
        elif later is not None and _is_of_the_test(later):
            place = _describe(later, later.co_firstlineno)
            yield f"a threading.Timer has still to run {place}"


def find_coroutine() -> str:
    """The line of the coroutine in which the caller runs; empty where it runs in none."""
    for frame, line in traceback.walk_stack(sys._getframe(1)):
        if frame.f_code.co_flags & (inspect.CO_COROUTINE | inspect.CO_ASYNC_GENERATOR):
            return _describe(frame.f_code, line)
    return ""


def _describe(code: CodeType, line: int) -> str:
    return formatting.describe_source(formatting.format_source((code, line)))


def _is_of_the_test(code: CodeType) -> bool:
    """Whether code is neither ours, nor Python's, nor of an installed package."""
    return not code.co_filename.startswith((PACKAGE, "<", *_INSTALLED))
