"""All that is known about an installed SDK, and nowhere else."""

from __future__ import annotations

from typing import Any


def installed_errors() -> Any | None:
    """The module of an installed SDK that defines the errors of a call, or None."""
    return None


def proxy_map() -> Any | None:
    """The SDK's map of stubs, if it is loaded and has a channel stub; else None."""
    return None


def is_silent_request_data(request_data: object) -> bool:
    """Whether the dispatcher of this request data only warns, and loses what it is given."""
    return request_data is None
