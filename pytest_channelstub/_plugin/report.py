"""What pytest shows of a timeline: a section of a failed test's report, and pages."""

from __future__ import annotations

import weakref
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pytest_channelstub._record import verbosity
from pytest_channelstub._service import apiproxy

if TYPE_CHECKING:
    from collections.abc import Generator

    from pytest_channelstub._html.page import PageSummary
    from pytest_channelstub._record.timeline import Timeline
    from pytest_channelstub._service.stub import ChannelServiceStub

SECTION = "channel timeline"
"""The section's name."""

MOST_EVENTS = 50
"""How many events of a timeline the section shows."""

MOST_STUBS = 8
"""How many stubs of one test are told of: Hypothesis may have a test build thousands."""

_FULL_FROM = 2  # -vv


class Reporter:
    """A pytest plugin that watches which stubs a test uses, and reports on them.

    Args:
        config: Of the run; `--channelstub-timeline` says where pages go.

    Raises:
        pytest.UsageError: That is no place for pages.
    """

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._directory = _directory(config)
        self._full_before = verbosity.show_in_full(config.getoption("verbose", 0) >= _FULL_FROM)
        self._stubs: list[weakref.ref[ChannelServiceStub]] = []
        self._used: list[tuple[Timeline, int]] = []
        self._left_out = 0
        self._older: list[tuple[Timeline, int]] = []
        self._outcomes: dict[str, str] = {}
        self._failure = ""
        self._told: dict[str, PageSummary] = {}
        apiproxy.registry.observers.append(self._born)

    @property
    def has_failed(self) -> bool:
        """Whether the current test, or a subtest of it, has been reported as failed."""
        return "failed" in self._outcomes.values()

    def settle(self) -> None:
        """Note where the older stubs' timelines stand, now that they have been reset."""
        self._older = [(timeline, len(timeline)) for timeline, _ in self._older]

    def pytest_unconfigure(self) -> None:
        """Leave everything as it was, for a pytest that runs another one."""
        verbosity.show_in_full(self._full_before)
        apiproxy.registry.observers.remove(self._born)

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_setup(self) -> None:
        """Forget the last test's stubs, and watch for new ones."""
        self._used, self._outcomes, self._failure = [], {}, ""
        self._left_out = 0
        self._stubs = [reference for reference in self._stubs if reference() is not None]
        stubs = [stub for stub in (reference() for reference in self._stubs) if stub is not None]
        self._older = [(stub.timeline, len(stub.timeline)) for stub in stubs]

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        """Add the section to a failed test, and write the page at its end."""
        report = yield
        # Subtests report on the way, and the test after them says "passed" all the same.
        if self._outcomes.get(report.when or "") != "failed":
            self._outcomes[report.when or ""] = report.outcome
        if not report.failed and self._directory is None:
            return report
        timelines = self._timelines(item)
        if report.failed and timelines:
            self._failure = self._failure or _crash(report)
            _add_section(report, timelines, self._left_out)
        if report.when == "teardown" and self._directory is not None and timelines:
            self._write_page(report, timelines)
        return report

    @pytest.hookimpl(trylast=True)
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Keep what the index needs; colour the section, when others have read it."""
        told = getattr(report, "channelstub_page", None)
        if told is not None:
            self._told[report.nodeid] = told
        if report.failed:
            terminal = self._config.pluginmanager.get_plugin("terminalreporter")
            if terminal is not None and terminal.hasmarkup:
                _colour_section(report)

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        """Say where the pages are."""
        if self._told and self._directory is not None:
            from pytest_channelstub._record import formatting  # noqa: PLC0415 (few runs want pages)

            where = self._directory / "index.html"
            timelines = formatting.plural(len(self._told), "timeline")
            terminalreporter.write_line(f"channelstub: {timelines} in {where}")

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self) -> None:
        """Write the index, once, where the workers' reports come together."""
        if self._told and self._directory is not None and not hasattr(self._config, "workerinput"):
            from pytest_channelstub._html import page as timeline_page  # noqa: PLC0415 (few runs want pages)

            timeline_page.write_index(self._directory, list(self._told.values()))

    def _born(self, stub: Any) -> None:
        # The timeline alone is kept: a stub that nobody holds has to go as it would untested.
        self._stubs.append(weakref.ref(stub))
        self._used.append((stub.timeline, 0))
        if len(self._used) > MOST_STUBS:
            del self._used[1]  # the first is most often that of the fixture
            self._left_out += 1

    def _timelines(self, item: pytest.Item) -> list[tuple[Timeline, int]]:
        """The timelines that the test had a part in, and the index of its first event."""
        asked = {id(getattr(value, "timeline", None)) for value in _fixtures(item)}
        older = [
            (timeline, first)
            for timeline, first in self._older
            if len(timeline) != first or id(timeline) in asked
        ]
        return older + self._used

    def _write_page(self, report: pytest.TestReport, timelines: list[tuple[Timeline, int]]) -> None:
        from pytest_channelstub._html import page as timeline_page  # noqa: PLC0415 (few runs want pages)

        assert self._directory is not None  # noqa: S101 (its only caller has looked)
        outcomes = self._outcomes.values()
        outcome = next((one for one in ("failed", "skipped") if one in outcomes), "passed")
        told = timeline_page.write_page(
            self._directory, report.nodeid, outcome, timelines, self._failure
        )
        report.channelstub_page = told  # type: ignore[attr-defined]  # pytest carries it along


def _directory(config: pytest.Config) -> Path | None:
    wanted = config.getoption("channelstub_timeline", None)
    if wanted is None:
        return None
    if not wanted:
        raise pytest.UsageError("--channelstub-timeline is empty: name a directory, new or old")
    directory = config.invocation_params.dir / wanted
    _see_that_pages_can_be_written(directory)
    # xdist hands the options on to its workers, whose own directory may be another.
    config.option.channelstub_timeline = str(directory)
    return Path(directory)


def _see_that_pages_can_be_written(directory: Path) -> None:
    # Found out now: later an error would end the run in its middle.
    import tempfile  # noqa: PLC0415 (few runs want pages)

    try:
        if directory.exists() and not directory.is_dir():
            told = "is a file: name a directory, new or old"
        else:
            directory.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=directory):
                return
    except OSError as error:
        told = f"cannot be written to: {error.strerror}: name another directory"
    raise pytest.UsageError(f"--channelstub-timeline: {directory} {told}")


def _fixtures(item: pytest.Item) -> list[Any]:
    values = getattr(item, "funcargs", {}).values()
    return [value for value in values if type(value).__name__ == "ChannelServiceStub"]


def _crash(report: pytest.TestReport) -> str:
    crash = getattr(report.longrepr, "reprcrash", None)
    return str(report.longrepr if crash is None else crash.message)


def _add_section(
    report: pytest.TestReport, timelines: list[tuple[Timeline, int]], left_out: int
) -> None:
    sections = [_section(timeline, first) for timeline, first in timelines]
    if left_out:
        sections.append(f"({left_out:,} stubs of this test, from its second on, are left out)")
    text = "\n\n".join(sections)
    # In the failure itself, where junit's XML has it too: of a report's own sections it
    # takes only what was captured.
    failure: Any = report.longrepr
    if hasattr(failure, "addsection"):
        failure.addsection(SECTION, text)
    else:
        report.sections.append((SECTION, text))


def _section(timeline: Timeline, first: int) -> str:
    from pytest_channelstub._record import formatting  # noqa: PLC0415 (only a failure needs it)

    events = timeline[:]
    shown = formatting.format_timeline(events, timeline.start, last=MOST_EVENTS).split("\n")
    place = len(shown) - (len(events) - first)
    if 0 < first <= len(events) and place > 0:
        shown.insert(place, "(this test begins here)")
    return "\n".join(shown)


def _colour_section(report: pytest.TestReport) -> None:
    from pytest_channelstub._record import formatting  # noqa: PLC0415 (only a failure needs it)

    for sections in (report.sections, getattr(report.longrepr, "sections", [])):
        for index, (name, text, *rest) in enumerate(sections):
            if name == SECTION:
                sections[index] = (name, formatting.colour(text), *rest)
