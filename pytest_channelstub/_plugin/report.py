"""What pytest shows of a test's timelines: a section of a failed test's report, and pages."""

from __future__ import annotations

import traceback
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pytest_channelstub._plugin.session import MOST_STUBS
from pytest_channelstub._record.settings import MOST_EVENTS, settings

if TYPE_CHECKING:
    from collections.abc import Generator

    from pytest_channelstub._html.page import PageSummary
    from pytest_channelstub._plugin.session import Session, WatchedStub

SECTION = "channel timeline"
"""The section's name."""

_FULL_FROM = 2  # -vv
_STRICT_ADVICE = (
    "reads each message, or names it in assert_queued, assert_sent or assert_dropped. To allow "
    'any: @pytest.mark.channel_stub(strict="")'
)


class Sections:
    """A pytest plugin that adds what the stubs of a failed test have recorded to its report."""

    def __init__(self, session: Session) -> None:
        self._session = session
        before = vars(settings).copy()  # of a pytest that runs this one
        session.config.add_cleanup(lambda: vars(settings).update(before))
        settings.full = session.config.getoption("verbose", 0) >= _FULL_FROM
        settings.show_timeline = False
        settings.find_fixture_stub = partial(session.funcarg, "channel_stub")
        settings.find_closed_stubs = session.closed_stubs

    # The innermost wrapper sees the report first: allure's wrapper finds the sections in it.
    @pytest.hookimpl(wrapper=True, trylast=True)
    def pytest_runtest_makereport(self) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        """Add the sections to a failed test."""
        report = yield
        if report.failed or self._session.has_failed:
            _add_app_errors(report, self._session)
        if report.failed:
            _add_timelines(report, self._session)
        return report


class Pages:
    """A pytest plugin that writes timelines as pages, and says at the run's end where they are."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._directory = _directory(session.config)
        self._failure = ""
        self._pages: dict[str, PageSummary] = {}
        self._notes: list[str] = []

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item, call: pytest.CallInfo[None]
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        """Note what a phase of the test came to; write the test's page at its end."""
        report = yield
        session = self._session
        session.note_outcome(call.when, report.outcome)
        if call.when == "setup":
            self._failure = ""
        if report.failed:
            self._failure = self._failure or _crash(report)
        if call.when == "teardown" and self._directory is not None:
            self._write_page(item, report, self._directory)
        if session.notes:
            report.channelstub_notes = session.notes.copy()  # type: ignore[attr-defined]  # pytest carries it along
            session.notes.clear()
        return report

    @pytest.hookimpl(trylast=True)
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Keep what the run's end needs; colour the section when others have read it."""
        if report.failed:
            _colour_section(report, self._session.config)
        page = getattr(report, "channelstub_page", None)
        if page is not None:
            self._pages[report.nodeid] = page
        self._notes += getattr(report, "channelstub_notes", ())

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self) -> None:
        """Write the index, once, where the workers' reports come together."""
        if self._pages and self._directory and not hasattr(self._session.config, "workerinput"):
            from pytest_channelstub._html import page as html  # noqa: PLC0415 (few runs want pages)

            try:
                html.write_index(self._directory, list(self._pages.values()))
            except OSError as error:
                self._notes.append(f"the index of the timelines cannot be written: {error}")

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        """Say where the pages are, and what could not be done."""
        if self._pages and self._directory is not None:
            from pytest_channelstub._record.formatting import plural  # noqa: PLC0415 (few runs want pages)

            where = self._directory / "index.html"
            pages = plural(len(self._pages), "timeline")
            terminalreporter.write_line(f"channelstub: {pages} in {where}")
        for note in dict.fromkeys(self._notes):
            terminalreporter.write_line(f"channelstub: {note}")

    def _write_page(self, item: pytest.Item, report: pytest.TestReport, directory: Path) -> None:
        used = _shown(self._session.used_stubs())
        if not used:
            return
        from pytest_channelstub._html import page as html  # noqa: PLC0415 (few runs want pages)

        outcomes = self._session.outcomes.values()
        outcome = next((one for one in ("failed", "skipped") if one in outcomes), "passed")
        timelines = [(each.timeline, each.first) for each in used]
        try:
            page = html.write_page(directory, item.nodeid, outcome, timelines, self._failure)
        except OSError as error:
            self._session.notes.append(f"no page for {item.nodeid}: {error}")
        else:
            report.channelstub_page = page  # type: ignore[attr-defined]  # pytest carries it along


def check_strict(session: Session) -> None:
    """Fail a test that has passed and left messages that `strict` does not allow."""
    strict = session.settings.strict
    if not strict:
        return
    left = session.left_messages.copy()
    for each in session.used_stubs():
        left += each.describe_left_messages(strict)
    if left:
        text = "\n  ".join(left)
        rule = f'With strict="{",".join(sorted(strict))}" a test'
        pytest.fail(f"the test passed, but {text}\n{rule} {_STRICT_ADVICE}", pytrace=False)


def _directory(config: pytest.Config) -> Path | None:
    """The directory for the pages, made and writable; None where none are wanted."""
    wanted = config.getoption("channelstub_timeline", None)
    if wanted is None:
        return None
    if not wanted:
        raise pytest.UsageError("--channelstub-timeline is empty: name a directory, new or old")
    import tempfile  # noqa: PLC0415 (few runs want pages)

    directory = Path(wanted)
    try:
        directory = config.invocation_params.dir / directory.expanduser()
        directory.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=directory).close()
    except FileExistsError:
        problem = " is a file: name a directory, new or old"
    except OSError as error:
        problem = f" cannot be written to: {error.strerror}: name another directory"
    except RuntimeError as error:  # ~ of a user who does not exist
        problem = f": {error}"
    else:
        # xdist hands the options on to its workers, whose own directory may be another.
        config.option.channelstub_timeline = str(directory)
        return directory
    message = f"--channelstub-timeline: {directory}{problem}"
    raise pytest.UsageError(message)


def _crash(report: pytest.TestReport) -> str:
    crash = getattr(report.longrepr, "reprcrash", None)
    return str(report.longrepr if crash is None else crash.message)


def _add_app_errors(report: pytest.TestReport, session: Session) -> None:
    for error in session.take_app_errors():
        text = "".join(traceback.format_exception(error))
        # A failed test shows the sections of its teardown that have the word in their name.
        where = " in teardown" if report.when == "teardown" else ""
        _add_section(report, f"error of the app under channel_server{where}", text)


def _add_timelines(report: pytest.TestReport, session: Session) -> None:
    used = session.used_stubs()
    if not used:
        return
    shown = _shown(used)
    left_out = session.left_out + len(used) - len(shown)
    remarks = _list_remarks(shown, _crash(report), session.find_other_time())
    if left_out:
        from pytest_channelstub._record.formatting import plural  # noqa: PLC0415 (few tests have so many)

        verb = "is" if left_out == 1 else "are"
        remarks.append(
            f"({plural(left_out, 'stub')} of this test, from its second on, {verb} left out)"
        )
    plain, coloured = (
        "\n\n".join([*(_format(each, len(shown) > 1, colour) for each in shown), *remarks])
        for colour in (False, True)
    )
    report.channelstub_coloured = coloured  # type: ignore[attr-defined]  # pytest carries it along
    _add_section(report, SECTION, plain)


def _shown(used: list[WatchedStub]) -> list[WatchedStub]:
    """The first stub, most often that of the fixture, and the newest."""
    return [*used[:1], *used[1:][1 - MOST_STUBS :]]


def _list_remarks(shown: list[WatchedStub], failure: str, other_time: str) -> list[str]:
    """What is worth knowing of the stubs beside their timelines: a list of it, if anything."""
    from pytest_channelstub._record.remarks import list_remarks  # noqa: PLC0415 (only a failure needs it)

    # Every stub repeats a remark on the process, such as a thread that runs: it is kept once.
    remarks: dict[str, None] = {}
    for each in shown:
        stub = each.reference()
        if stub is not None:
            others = [(one.built_by(), one.timeline) for one in shown if one is not each]
            remarks.update(dict.fromkeys(list_remarks(stub, others, failure)))
            if other_time and stub._is_clock_own and not stub.clock.elapsed:
                remark = (
                    f"{other_time} does not move the stub's clock, which stands at its start: "
                    "clock.advance(...) does, and clock='system' follows freezegun"
                )
                remarks[remark] = None
    return ["\n".join(f"- {remark}" for remark in remarks)] if remarks else []


def _add_section(report: pytest.TestReport, title: str, text: str) -> None:
    # To the failure itself, which junit's XML shows; of a report's own sections it shows only
    # captured output.
    failure: Any = report.longrepr
    if hasattr(failure, "addsection"):
        failure.addsection(title, text)
    else:
        report.sections.append((title, text))


def _format(watched: WatchedStub, has_heading: bool, colour: bool) -> str:
    from pytest_channelstub._record.outcomes import format_record  # noqa: PLC0415 (only a failure needs it)

    timeline = watched.timeline
    record = format_record(timeline, last=MOST_EVENTS, full=settings.full, colour=colour)
    lines = record.split("\n")
    place = len(lines) - (len(timeline) - watched.first)
    if 0 < watched.first <= len(timeline) and place > 0:
        lines.insert(place, "(this test begins here)")
    if has_heading:
        lines.insert(0, f"the stub of {watched.describe_origin()}:")
    return "\n".join(lines)


def _colour_section(report: pytest.TestReport, config: pytest.Config) -> None:
    terminal: Any = config.pluginmanager.get_plugin("terminalreporter")
    coloured = getattr(report, "channelstub_coloured", None)
    if coloured is None or not getattr(terminal, "hasmarkup", False):
        return
    for sections in (report.sections, getattr(report.longrepr, "sections", [])):
        for index, (name, _, *rest) in enumerate(sections):
            if name == SECTION:
                sections[index] = (name, coloured, *rest)
