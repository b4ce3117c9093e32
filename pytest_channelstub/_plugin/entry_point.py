"""What the entry point loads, under its name: the plugin module, under the module's own.

pytest takes a module under one name alone. With two objects, the plugin may also be named
as a module, by `-p`, `PYTEST_PLUGINS` or `pytest_plugins`; and `-p no:` works with either name.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pytest


def pytest_addoption(pluginmanager: pytest.PytestPluginManager) -> None:
    """Load the plugin, unless it was named before, or is switched off."""
    pluginmanager.import_plugin("pytest_channelstub.plugin")
