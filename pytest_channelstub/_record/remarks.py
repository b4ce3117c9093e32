"""What is worth knowing where a test has failed, or has left messages behind."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_channelstub import _tokens
from pytest_channelstub._record import formatting
from pytest_channelstub._record.history import TAKEN
from pytest_channelstub._record.outcomes import Outcomes
from pytest_channelstub._record.threads import find_running_threads

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator

    from pytest_channelstub._record.diagnosis import Stub
    from pytest_channelstub._record.timeline import Timeline

_MOST = 20
"""How many lines a list of remarks or messages has."""


def describe_left_messages(timeline: Timeline, strict: Collection[str]) -> list[str]:
    """The messages of a test that nobody received and no assertion has named, a line each."""
    outcomes = Outcomes(timeline)
    left = outcomes.find(("drop",)) if "dropped" in strict else []
    if "unread" in strict:
        ends = outcomes.history.outcomes.items()
        left += [index for index, end in ends if end.kind not in ("read", TAKEN)]
    unknown = sorted({*left} - timeline._acknowledged)
    lines = [outcomes.summarize(index) for index in unknown[:_MOST]]
    return [*lines, *_count_rest(len(unknown))]


def list_remarks(
    stub: Stub, others: Iterable[tuple[str, Timeline]] | None = None, text: str = ""
) -> list[str]:
    """What is worth knowing of a stub where a test has failed, a sentence each.

    A time-out that is due and was not noticed, a refused call, an error of the app, a call that
    found nothing as its token is not valid, a token that was taken for a client id, another
    stub that took messages, a thread that is still running.
    """
    if others is None:
        others = [(other._built_by, other.timeline) for other in stub._other_stubs()]
    outcomes = Outcomes(stub.timeline)
    remarks = [
        f"{formatting.format_client(client_id)} was due to time out at {outcomes.offset(due)}: "
        "the stub notices at its next call"
        for client_id, due in stub._overdue()
    ]
    for index, event in enumerate(outcomes.events):
        is_refusal = event.kind == "refuse"
        describe = outcomes.describe_refusal if is_refusal else outcomes.describe_app_failure
        remark = describe(index)
        if remark and remark not in text:
            remarks.append("; ".join((remark, *outcomes.sources(index))))
    remarks += _describe_invalid(stub, outcomes)
    for built_by, timeline in others:
        count = sum(event.kind in ("send", "drop") for event in timeline)
        if count and built_by not in text and not outcomes.find():
            messages = formatting.plural(count, "message")
            remarks.append(f"{messages} went to another stub, which {built_by}")
    threads = [thread for thread in find_running_threads(stub._older_threads) if thread not in text]
    remarks += [f"{thread}: what it sends comes later" for thread in threads]
    return [*remarks[:_MOST], *_count_rest(len(remarks))]


def _describe_invalid(stub: Stub, outcomes: Outcomes) -> Iterator[str]:
    """The calls that were given no valid token, or a token where a client id is wanted."""
    client_ids = {event.client_id for event in outcomes.events}
    for (method, shown), (text, source) in stub._invalid.items():
        what = "and this is not one"
        if text is not None and _tokens.read(text) is not None:
            what = f"and this is {outcomes.describe_expired(text)}"
        elif text in client_ids:
            what = "and this is a client id"
        line = formatting.describe_source(formatting.format_source(source))
        yield f"{method}({shown}) takes a valid token, {what}; called by {line}"
    for event in outcomes.events:
        read = _tokens.read(event.client_id)
        if event.kind in ("disconnect", "timeout", "request") and read is not None:
            yield (
                f"{formatting.format_token(event.client_id or '')} was taken for a client id: "
                f"pass {read.client_id!r}"
            )


def _count_rest(count: int) -> list[str]:
    return [f"and {count - _MOST:,} more"] if count > _MOST else []
