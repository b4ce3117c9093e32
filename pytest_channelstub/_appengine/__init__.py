"""All that is known about an installed App Engine SDK, and nowhere else.

Importing it makes the SDK known to the core.
"""

from __future__ import annotations

from pytest_channelstub._appengine import importing, patches

__all__ = ["importing", "patches"]
