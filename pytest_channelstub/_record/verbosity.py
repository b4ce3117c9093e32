"""Whether failures show everything, however long, as under pytest's -vv."""

from __future__ import annotations

from pytest_channelstub._record.formatting import settings


def show_in_full(wanted: bool) -> bool:
    """Set it.

    Returns:
        What it was before, to be given back later.
    """
    before, settings.full = settings.full, wanted
    return before
