"""What the plugin knows of a pytest run, and of the test that is under way."""

from __future__ import annotations

import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

import pytest

from pytest_channelstub._plugin import options as _options
from pytest_channelstub._plugin import report as reports

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_channelstub._plugin.keeper import Keeper
    from pytest_channelstub._service.stub import ChannelServiceStub

NODES: dict[str, type[pytest.Collector]] = {
    "class": pytest.Class,
    "module": pytest.Module,
    "package": pytest.Package,
    "session": pytest.Session,
}


class Run:
    """One run of pytest.

    Args:
        config: Of the run.

    Raises:
        pytest.UsageError: A setting is none of the allowed ones.

    Attributes:
        options: What holds for the whole run.
        reporter: Watches which stubs a test uses, and reports on them.
        settings: What the current test asks for.
        begun: Whether what outlives the current test has been reset for it.
    """

    def __init__(self, config: pytest.Config) -> None:
        self.options = _options.of_run(config)
        self.reporter = reports.Reporter(config)
        self.settings = self.options.settings
        self.begun = False
        self._item: pytest.Item | None = None
        self._reset = self.options.reset
        self._failing: tuple[_options.FailingCalls, ...] = ()
        self._keeper: Keeper | None = None
        self._marked: list[type[Exception]] = []

    def refuse_class(self, nodeid: str, standing: object) -> None:
        """Refuse what stands in a test's place, where a marker was given a class.

        Args:
            nodeid: Of the test.
            standing: An exception or a marker.

        Raises:
            pytest.Collector.CollectError: It is there because of `channel_error(SomeError)`.
        """
        kind = _options.class_marked(standing)
        if kind is not None:
            self._marked.append(kind)
            told = f"@pytest.mark.channel_error({kind.__name__}): {_options.class_refused(kind)}"
            raise pytest.Collector.CollectError(f"{nodeid}: {told}")

    def prepare(self, item: pytest.Item) -> None:
        """Read a test's markers, before anything is built for it.

        Raises:
            pytest.fail.Exception: A marker has something that is not allowed.
        """
        options = self.options
        self._item, self.begun = item, False
        self.settings, self._reset, self._failing = options.settings, options.reset, ()
        for marker in item.iter_markers():
            if marker.name.startswith("channel_"):
                self.settings = _options.of_node(item, options.settings)
                self._reset = _options.reset_of(item, options.reset)
                self._failing = _options.errors_of(item)
                _refuse_late_wishes(item, options.scope)
                break

    def begin(self) -> None:
        """Once a test: reset what outlives it, and have calls fail as the test asks."""
        self.begun = True
        if self._keeper is not None:
            self._keeper.begin_test(self._reset)
            self._keeper.fail_calls(self._failing)
            self.reporter.settle()

    def insist(self) -> None:
        """Fail a test that has passed, and left what it must not."""
        if not self.settings.strict or self._keeper is None or self.reporter.has_failed:
            return
        from pytest_channelstub._plugin import strictness  # noqa: PLC0415 (only where it is asked for)

        complaint = strictness.complaint(self._keeper.timelines(), self.settings.strict)
        if complaint is not None:
            pytest.fail(complaint, pytrace=False)

    def end(self) -> None:
        """Undo what was set for the time of the test."""
        if self._failing and self._keeper is not None:
            self._keeper.fail_calls(())
        self._failing = ()

    def close(self) -> None:
        """End the stubs that nobody has closed, and take the marks off the classes."""
        for kind in self._marked:
            _options.unmark(kind)
        if self._keeper is not None:
            self._keeper.close()

    def build(self, app: Callable[..., Any] | None) -> ChannelServiceStub:
        """Build the stub of `channel_stub`, for the current test or what is around it."""
        assert self._item is not None  # noqa: S101 (fixtures are built for tests)
        settings, node = self.settings, self._around(self._item)
        if node is not self._item:
            settings = _options.of_node(node, self.options.settings)
        return self.keeper().build(
            start=settings.start,
            clock=settings.clock,
            seed=node.nodeid if settings.seed is None else settings.seed,
            app=app,
        )

    def _around(self, item: pytest.Item) -> pytest.Item | pytest.Collector:
        """The test itself, or the node that the stub is built for."""
        if self.options.scope == "function":
            return item
        kind = NODES[self.options.scope]
        nodes = (node for node in reversed(item.listchain()) if isinstance(node, kind))
        return next(nodes, item.session)

    def keeper(self) -> Keeper:
        """The keeper of the run's stubs; it is made, and the stub loaded, when first asked for."""
        if self._keeper is None:
            forget_unloaded_modules()
            from pytest_channelstub._plugin.keeper import Keeper  # noqa: PLC0415 (when first asked for)

            self._keeper = Keeper()
            self._keeper.fail_calls(self._failing)
        return self._keeper


def forget_unloaded_modules() -> None:
    """Make sure that no module of ours is loaded twice.

    pytester takes what its runs have loaded out of `sys.modules` again, and leaves it on
    the package, where `from pytest_channelstub import channel` would still find it.
    """
    package = sys.modules["pytest_channelstub"]
    for name, value in [*vars(package).items()]:
        if isinstance(value, ModuleType) and sys.modules.get(value.__name__) is not value:
            delattr(package, name)


def _refuse_late_wishes(item: pytest.Item, scope: str) -> None:
    if scope == "function" or "channel_stub" not in getattr(item, "fixturenames", ()):
        return
    late = _options.built_too_early(item, NODES[scope])
    if late is not None:
        message = (
            f"{item.nodeid}: @pytest.mark.channel_stub({late}=...) comes too late: the stub is "
            f"built once for the {scope}; mark the {scope}, or use channelstub_scope=function"
        )
        pytest.fail(message, pytrace=False)
