"""How the tests of this folder run pytest."""

from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def _only_this_plugin(monkeypatch):
    """Runs within a test load this plugin and those they name: quicker, and always the same."""
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    monkeypatch.setenv("PYTEST_PLUGINS", "pytest_channelstub.plugin")
    monkeypatch.delenv("CI", raising=False)  # in CI pytest prints every failure twice
