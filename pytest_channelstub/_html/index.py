"""The page that leads to the pages of a run's tests."""

from __future__ import annotations

import math
import re
from collections import Counter
from html import escape
from typing import TYPE_CHECKING, TypedDict

from pytest_channelstub._html.files import fill, remove_old_documents, write_document
from pytest_channelstub._html.labels import readable
from pytest_channelstub._record import formatting

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from pytest_channelstub._record.timeline import Event

_MOST_BARS = 130
_IMPORTANT = ("drop", "error", "refuse", "reject", "timeout", "send", "read")


class PageSummary(TypedDict):
    """What the index says of a page; plain values, so that pytest-xdist can carry it.

    Attributes:
        nodeid: The test.
        outcome: `passed`, `failed` or `skipped`.
        file: The page's name.
        events: How many events there are.
        sent: How many messages reached a queue.
        dropped: How many messages did not.
        timeouts: How many clients timed out.
        bars: The kinds of the events, one for each bar of the small picture.
    """

    nodeid: str
    outcome: str
    file: str
    events: int
    sent: int
    dropped: int
    timeouts: int
    bars: list[str]


def summarize(nodeid: str, outcome: str, file: str, events: Sequence[Event]) -> PageSummary:
    """Return what the index says of a page.

    Args:
        nodeid: The test.
        outcome: `passed`, `failed` or `skipped`.
        file: The page's name.
        events: Those of the test.
    """
    kinds = Counter(event.kind for event in events)
    step = max(1, math.ceil(len(events) / _MOST_BARS))
    return PageSummary(
        nodeid=nodeid,
        outcome=outcome,
        file=file,
        events=len(events),
        sent=kinds["send"],
        dropped=kinds["drop"],
        timeouts=kinds["timeout"],
        bars=[_most_important(events[i : i + step]) for i in range(0, len(events), step)],
    )


def write_index(directory: Path, pages: Iterable[PageSummary]) -> None:
    """Write the index, failed tests first, and remove the pages of earlier runs.

    Args:
        directory: Where the pages are.
        pages: What `write_page` returned in this run.

    Raises:
        OSError: The index cannot be written, or an old page cannot be removed.
    """
    order = {"failed": 0, "passed": 1}
    ordered = sorted(pages, key=lambda page: (order.get(page["outcome"], 2), page["nodeid"]))
    outcomes = Counter(page["outcome"] for page in ordered)
    body = fill(
        "index",
        tests=formatting.plural(len(ordered), "test"),
        outcomes=", ".join(f"{count:,} {outcome}" for outcome, count in outcomes.items()),
        rows="\n".join(map(_row, ordered)),
    )
    write_document(directory / "index.html", "Channel timelines", body)
    remove_old_documents(directory, {"index.html", *(page["file"] for page in ordered)})


def split_nodeid(nodeid: str) -> tuple[str, str]:
    """Return where a test stands, and its own name with its parameters."""
    path, bracket, parameters = readable(nodeid).partition("[")
    where, _, name = path.rpartition("::")
    return where, name + bracket + parameters


def break_anywhere(name: str) -> str:
    """Return a test's name as HTML that wraps between its words."""
    return re.sub(r"([_/.:-]+)", r"\1<wbr>", escape(name))


def _row(page: PageSummary) -> str:
    where, name = split_nodeid(page["nodeid"])
    counts = {
        "events": page["events"],
        "sent": page["sent"],
        "dropped": page["dropped"],
        "timed out": page["timeouts"],
    }
    return fill(
        "index_row",
        outcome=escape(page["outcome"]),
        file=escape(page["file"]),
        name=break_anywhere(name),
        where=break_anywhere(where),
        line=", ".join(f"{count:,} {label}" for label, count in counts.items() if count),
        bars=_draw_bars(page["bars"]),
        counts="".join(
            f'<td class="wide {label}">{f"{count:,}" if count else ""}</td>'
            for label, count in counts.items()
        ),
    )


def _draw_bars(kinds: Sequence[str]) -> str:
    bars = "".join(
        f'<rect class="t-{escape(kind)}" x="{3 * place}" width="2" {_bar_height(kind)}/>'
        for place, kind in enumerate(kinds)
    )
    width = 3 * len(kinds)
    return (
        f'<svg class="bars" viewBox="0 0 {width} 16" preserveAspectRatio="none" '
        f'style="max-width:{width}px">{bars}</svg>'
    )


def _bar_height(kind: str) -> str:
    if kind in ("send", "read"):
        return 'y="5" height="11"'
    return 'y="0" height="16"' if kind in _IMPORTANT else 'y="11" height="5"'


def _most_important(events: Sequence[Event]) -> str:
    kinds = {event.kind for event in events}
    return next((kind for kind in _IMPORTANT if kind in kinds), events[0].kind)
