"""The live servers of a pytest run, and the errors of the apps that they serve."""

from __future__ import annotations

import contextlib
import traceback
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator

    from pytest_channelstub._service.stub import ChannelServiceStub
    from pytest_channelstub.web.server import ChannelServer

_HIGHEST_PORT = 65535


class Servers:
    """Knows the servers that are up; a pytest plugin.

    An app that raises does so in a thread of its server, where the browser alone would
    see it, as a 500. The test which was running is told too, once.

    Args:
        config: The run's.
    """

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._up: list[ChannelServer] = []

    @contextlib.contextmanager
    def serve(
        self, stub: ChannelServiceStub, app: Callable[..., Any] | None
    ) -> Iterator[ChannelServer]:
        """A server, for as long as the `with` lasts.

        Raises:
            pytest.fail.Exception: Werkzeug is not installed, or the port cannot be had.
            BaseException: What the app raised when no test was there any more to tell.
        """
        __tracebackhide__ = True
        server = self._start(stub, app)
        self._up.append(server)
        try:
            yield server
        finally:
            self._up.remove(server)
            server.stop()
        for error in server.take_errors():
            raise error

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_call(self, item: pytest.Item) -> Generator[None, object, object]:
        """Fail a test during which the app raised; add to the report of one that failed."""
        __tracebackhide__ = True
        try:
            result = yield
        except BaseException:
            self._report(item, self._take_errors())
            raise
        errors = self._take_errors()
        self._report(item, errors[1:])
        if errors:
            raise errors[0]
        return result

    def _start(self, stub: ChannelServiceStub, app: Callable[..., Any] | None) -> ChannelServer:
        try:
            from pytest_channelstub.web.server import ChannelServer  # noqa: PLC0415 (an extra)

            return ChannelServer(stub, app, self._port())
        except (ImportError, OSError) as error:
            told = str(error)
        pytest.fail(told, pytrace=False)

    def _port(self) -> int:
        port = int(self._config.getoption("channelstub_port"))
        if not 0 <= port <= _HIGHEST_PORT:
            message = f"--channelstub-port is {port}: pass a port from 1 to {_HIGHEST_PORT}"
            raise OSError(message)
        # Two workers cannot share a port: each takes its own, from the one given upwards.
        worker = getattr(self._config, "workerinput", {}).get("workerid", "gw0")
        return port and port + int(worker.removeprefix("gw"))

    def _take_errors(self) -> list[BaseException]:
        return [error for server in self._up for error in server.take_errors()]

    @staticmethod
    def _report(item: pytest.Item, errors: list[BaseException]) -> None:
        for error in errors:
            told = "".join(traceback.format_exception(type(error), error, error.__traceback__))
            item.add_report_section("call", "error of the app under channel_server", told)


_NAME = "channelstub-servers"


def of(config: pytest.Config) -> Servers:
    """The servers of a run."""
    # Asked of pytest, not kept in the stash: where pytester has put sys.modules back in order,
    # this module is loaded a second time, and its key would be another.
    servers: Servers | None = config.pluginmanager.get_plugin(_NAME)
    if servers is None:
        servers = Servers(config)
        config.pluginmanager.register(servers, _NAME)
    return servers
