"""How failures read in this run."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class Settings:
    """How failures read; the plugin sets it for the time of a run, and restores it."""

    # Whether failures show everything, however long, as with pytest's `-vv`.
    full: bool = False
    # Whether an assertion's text ends with the timeline, and its advice does without fixtures:
    # under pytest the timeline stands in a section of the report.
    show_timeline: bool = True


settings = Settings()
"""What holds now: outside pytest, the defaults."""
