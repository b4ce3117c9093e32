"""How failures read in this run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

MOST_EVENTS = 50
"""How many events of a timeline a failure shows."""


@dataclass
class Settings:
    """How failures read; the plugin sets it for the time of a run, and restores it."""

    # Whether failures show everything, however long, as with pytest's `-vv`.
    full: bool = False
    # Whether an assertion's text ends with the timeline: under pytest it stands in a section of
    # the report, and advice may name fixtures.
    show_timeline: bool = True
    # Gives the stub that the test knows as `channel_stub`; None for none.
    find_fixture_stub: Callable[[], object] = lambda: None
    # Gives the stubs that the test has built after a certain one, and closed.
    find_closed_stubs: Callable[[object], list[Any]] = lambda _: []


settings = Settings()
"""What holds now: outside pytest, the defaults."""
