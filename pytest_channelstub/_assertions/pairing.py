"""Which pending message is which of those that were expected."""

from __future__ import annotations

import functools
from collections import defaultdict, deque
from typing import TYPE_CHECKING, Any

from pytest_channelstub._record.matching import may_match, read_json

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


def pair(expected: Sequence[object], pending: Sequence[Any]) -> list[int | None]:
    """For each expected message the pending one that it is, each taken once; as many as can be."""
    places: dict[str, deque[int]] = defaultdict(deque)
    for index, message in enumerate(pending):
        if isinstance(message, str):
            places[message].append(index)
    # A text is only ever the same text, so that what it takes is missing to no other value.
    taken: dict[int, int] = {}
    for number, value in enumerate(expected):
        alike = places.get(value) if isinstance(value, str) else None
        if alike:
            taken[number] = alike.popleft()
    used = {*taken.values()}
    left = [(index, message) for index, message in enumerate(pending) if index not in used]
    read = functools.cache(read_json)  # each message is compared with each value
    fits = {
        number: [index for index, message in left if may_match(value, message, read)]
        for number, value in enumerate(expected)
        if not isinstance(value, str)
    }
    owners: dict[int, int] = {}  # by message
    closed: set[int] = set()
    for number in fits:
        _take(number, fits, owners, closed)
    taken |= {number: index for index, number in owners.items()}
    return [taken.get(number) for number in range(len(expected))]


def _take(
    first: int, fits: Mapping[int, Sequence[int]], owners: dict[int, int], closed: set[int]
) -> None:
    """Give a value one of the messages that fit, if need be one that its owner can do without.

    Messages that no owner can do without, now or later, are added to `closed`.
    """
    asked_by: dict[int, int] = {}  # by message
    asking = deque([first])
    while asking:
        number = asking.popleft()
        for index in fits[number]:
            if index in asked_by or index in closed:
                continue
            asked_by[index] = number
            if index in owners:
                asking.append(owners[index])
                continue
            # Each on the way takes the message that it has asked for, and leaves its own.
            own = {owner: message for message, owner in owners.items()}
            free: int | None = index
            while free is not None:
                owner = asked_by[free]
                owners[free], free = owner, own.get(owner)
            return
    closed.update(asked_by)
