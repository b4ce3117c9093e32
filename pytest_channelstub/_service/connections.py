"""Who is connected, and what waits for them."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

from pytest_channelstub._service.queues import MessageQueue

if TYPE_CHECKING:
    from pytest_channelstub._record.timeline import Timeline


class Connections:
    """The connected clients of a stub, each with its queue; a client that is not has none.

    Every change is recorded under the same lock as it is made, so that the timeline
    tells it in the order in which it happened. Nothing but our own code runs there.

    Args:
        timeline: Where changes are recorded.

    Attributes:
        queues: Of the connected clients, in the order in which they connected.
        holds: Of the clients that are held, by hold, until when.
    """

    def __init__(self, timeline: Timeline) -> None:
        self.queues: dict[str, MessageQueue] = {}
        self.holds: dict[str, dict[object, int]] = {}
        self._lock = timeline.changing
        self._record = timeline.record
        # Of the queues alone: a method of ours would make a circle of the two.
        timeline.live_lists = functools.partial(_live_lists, self.queues)
        self._append, self._watchers, self._wake = timeline.recording()

    def client_ids(self) -> tuple[str, ...]:
        """The clients, in the order in which they connected."""
        with self._lock:
            return tuple(self.queues)

    def open(self, now: float, client_id: str, token: str) -> bool:
        """Connect a client; False if it was connected already."""
        with self._lock:
            if client_id in self.queues:
                return False
            self.queues[client_id] = MessageQueue()
            self._record((now, "connect", client_id, token, None, ""))
            return True

    def remove(self, now: float, client_id: str, kind: str, note: str = "") -> None:
        """Disconnect a client, connected or not, and drop its queue."""
        with self._lock:
            queue = self.queues.pop(client_id, None)
            told = "was not connected" if queue is None else f"{len(queue.messages)} unread"
            self._record((now, kind, client_id, None, None, note + told))

    def send(self, now: float, client_id: str, token: str | None, message: str, note: str) -> bool:
        """Queue a message; False if it is dropped, as the client is not connected."""
        with self._lock:
            queue = self.queues.get(client_id)
            if queue is None:
                self._record((now, "drop", client_id, token, message, note))
                return False
            queue.append(message)
            self._append((now, "send", client_id, token, message, ""))
            if self._watchers:
                self._wake(client_id)
            return True

    def pop(self, now: float, client_id: str, token: str, reader: str) -> str | None:
        """Take the first message; None where there is none."""
        with self._lock:
            queue = self.queues.get(client_id)
            message = queue.take() if queue is not None and queue.messages else None
            if message is not None:
                self._append((now, "read", client_id, token, message, reader))
            elif reader != "pop":
                self._append((now, "poll", client_id, token, None, ""))
            if self._watchers:
                self._wake(client_id)
            return message

    def clear(self, now: float, client_id: str, token: str) -> int:
        """Drop what waits for a client; it stays connected.

        Returns:
            How many messages that were.
        """
        with self._lock:
            queue = self.queues.get(client_id)
            if queue is None:
                return 0
            lost = len(queue.messages)
            queue.clear()
            self._record((now, "clear", client_id, token, None, lost))
            return lost

    def clear_all(self, now: float) -> None:
        """Drop what waits for anybody; all stay connected."""
        with self._lock:
            lost = sum(len(queue.messages) for queue in self.queues.values())
            for queue in self.queues.values():
                queue.clear()
            if self.queues:
                self._record((now, "reset", None, None, None, f"queues, {lost} lost"))

    def forget(self) -> None:
        """As new: nobody is connected or held, and nothing is told."""
        with self._lock:
            self.queues.clear()
            self.holds.clear()

    def live(self, client_id: str) -> list[str] | None:
        """The very list of a client's messages; None if not connected."""
        with self._lock:
            queue = self.queues.get(client_id)
            return None if queue is None else queue.live()

    def waiting(self, client_id: str) -> int:
        """How many messages wait for a client; 0 if not connected."""
        with self._lock:
            queue = self.queues.get(client_id)
            return 0 if queue is None else len(queue.messages)

    def pending(self, client_id: str) -> tuple[str, ...] | None:
        """A client's messages as they are now; None if not connected."""
        with self._lock:
            queue = self.queues.get(client_id)
            return None if queue is None else tuple(queue.messages)

    def hold(self, client_id: str, expires: int) -> object:
        """Count a client as alive until second `expires`, or until `release`.

        Returns:
            What `release` knows the hold by.
        """
        hold = object()
        with self._lock:
            self.holds.setdefault(client_id, {})[hold] = expires
        return hold

    def release(self, client_id: str, hold: object) -> bool:
        """End a hold; False if it was forgotten already."""
        with self._lock:
            held = self.holds.get(client_id, {})
            found = held.pop(hold, None) is not None
            if found and not held:
                del self.holds[client_id]
            return found

    def alive_until(self, client_id: str, now: float) -> float:
        """The last instant at which a client counts as alive, if nothing else happens."""
        if not self.holds:
            return now
        with self._lock:
            return max((now, *self.holds.get(client_id, {}).values()))


def _live_lists(queues: dict[str, MessageQueue]) -> dict[str, tuple[str, ...]]:
    """What is in the lists that `live` has handed out; the lock is held."""
    return {
        client_id: tuple(queue.messages)
        for client_id, queue in queues.items()
        if isinstance(queue.messages, list)
    }
