from __future__ import annotations

import contextlib
import threading
from concurrent.futures import Future

import pytest

from pytest_channelstub import ChannelServiceStub, FakeClock
from pytest_channelstub.web import ChannelMiddleware


@pytest.fixture
def stub():
    with ChannelServiceStub(time_func=FakeClock().time) as stub:
        yield stub


@pytest.fixture
def middleware(stub):
    middleware = ChannelMiddleware(stub)
    yield middleware
    middleware.stop()


@pytest.fixture
def in_background():
    """Call a function in a thread; gives a future of what it returns."""
    with contextlib.ExitStack() as ends:

        def call(function, *args, **kwargs):
            future = Future()

            def run():
                try:
                    future.set_result(function(*args, **kwargs))
                except BaseException as error:  # noqa: BLE001 (for who asks for the result)
                    future.set_exception(error)

            thread = threading.Thread(target=run, daemon=True)
            ends.callback(thread.join, 10)
            thread.start()
            return future

        yield call
