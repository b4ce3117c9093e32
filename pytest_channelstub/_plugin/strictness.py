"""What a test that passed has left behind."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pytest_channelstub._record.timeline import Timeline


def complaint(timelines: Iterable[tuple[Timeline, int]], strict: frozenset[str]) -> str | None:
    """Say which messages a test has lost or left, if any.

    Messages that an assertion has named, and those of earlier tests, do not count.

    Args:
        timelines: Each with its length when the test began.
        strict: `dropped`, `unread` or both.

    Returns:
        A text for an AssertionError; None if nothing was left.
    """
    found = [line for timeline, since in timelines for line in _left(timeline, since, strict)]
    if not found:
        return None
    messages = "a message" if len(found) == 1 else f"{len(found)} messages"
    return "\n".join(
        [
            f"the test passed and left {messages} behind (strict: {', '.join(sorted(strict))}):",
            *(f"  {line}" for line in found),
            (
                "A message that assert_dropped or assert_queued names is expected. "
                'To allow any: @pytest.mark.channel_stub(strict="")'
            ),
        ]
    )


def _left(timeline: Timeline, since: int, strict: frozenset[str]) -> list[str]:
    from pytest_channelstub._record import formatting  # noqa: PLC0415 (only where strictness is asked for)
    from pytest_channelstub._record.diagnosis import Diagnosis  # noqa: PLC0415

    diagnosis = Diagnosis(timeline)
    unread = {index for queue in diagnosis.history.queues.values() for index in queue}
    left = [
        index
        for index, event in enumerate(diagnosis.history.events)
        if index >= since
        and index not in timeline._acknowledged
        and (
            ("dropped" in strict and event.kind == "drop")
            or ("unread" in strict and index in unread)
        )
    ]
    return [
        f"{formatting.quoted(diagnosis.history.events[index].message or '')} to "
        f"{formatting.format_client(diagnosis.history.events[index].client_id)}, {diagnosis.fate(index)}"
        for index in left
    ]
