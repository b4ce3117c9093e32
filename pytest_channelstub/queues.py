"""A client's pending messages."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


class MessageQueue:
    """First in, first out; and, once somebody asks for it, a live list.

    The SDK's stub hands out the very list it works on, so that messages and pops
    show in a list taken earlier. Taking the head of a long list moves all the rest,
    so the list is made only when somebody wants to hold it.

    Attributes:
        append: Adds a message at the end.
    """

    __slots__ = ("_held", "_messages", "append")

    def __init__(self) -> None:
        self._messages: deque[str] = deque()
        self._held: list[str] | None = None
        self.append: Callable[[str], None] = self._messages.append

    def __len__(self) -> int:
        return len(self._messages if self._held is None else self._held)

    def pop(self) -> str | None:
        """Take the first message; None when there is none."""
        if self._held is None:
            return self._messages.popleft() if self._messages else None
        return self._held.pop(0) if self._held else None

    def live(self) -> list[str]:
        """The list itself: later messages and pops show in it."""
        if self._held is None:
            self._held = list(self._messages)
            self._messages.clear()
            self.append = self._held.append
        return self._held

    def snapshot(self) -> tuple[str, ...]:
        """The messages as they are now."""
        return tuple(self._messages if self._held is None else self._held)

    def clear(self) -> int:
        """Start anew, leaving a list that somebody holds as it was.

        Returns:
            How many messages were pending.
        """
        lost = len(self)
        self._messages.clear()
        self._held = None
        self.append = self._messages.append
        return lost
