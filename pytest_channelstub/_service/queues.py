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
        messages: What waits, oldest first.
        append: Adds a message at the end.
        take: Takes the first message; there has to be one.
    """

    __slots__ = ("append", "messages", "take")

    messages: deque[str] | list[str]
    append: Callable[[str], None]
    take: Callable[[], str]

    def __init__(self) -> None:
        self.clear()

    def live(self) -> list[str]:
        """The list itself: later messages and pops show in it."""
        if not isinstance(self.messages, list):
            messages = list(self.messages)
            self.messages = messages
            self.append = messages.append
            self.take = lambda: messages.pop(0)
        return self.messages

    def clear(self) -> None:
        """Start anew, leaving a list that somebody holds as it was."""
        messages: deque[str] = deque()
        self.messages = messages
        self.append = messages.append
        self.take = messages.popleft
