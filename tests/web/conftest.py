from __future__ import annotations

import contextlib
import random
import socket
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


@pytest.fixture
def free_port():
    """A port that is free, and so is the next, where no outgoing connection takes them."""
    chance = random.Random()
    while True:
        port = chance.randrange(10_000, 30_000)
        with contextlib.suppress(OSError), contextlib.ExitStack() as ends:
            for number in (port, port + 1):
                ends.enter_context(socket.create_server(("127.0.0.1", number)))
            return port
