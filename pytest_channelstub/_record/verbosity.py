"""Whether failures show everything, however long, as under pytest's -vv."""

from __future__ import annotations

full = False
"""What holds now."""


def show_in_full(wanted: bool) -> bool:
    """Set it.

    Returns:
        What it was before, to be given back later.
    """
    global full
    before, full = full, wanted
    return before
