"""The plugin by either of its names, once or twice, on or off."""

from __future__ import annotations

import pytest

TEST = """
    def test_it(channel_stub, pytestconfig):
        names = [name for name, _ in pytestconfig.pluginmanager.list_name_plugin()]
        assert names.count("pytest_channelstub.plugin") == 1
"""
NAMES = ("pytest_channelstub", "pytest_channelstub.plugin")


@pytest.fixture(autouse=True)
def _as_installed(monkeypatch):
    """Let the entry point load the plugin, and no other one."""
    monkeypatch.delenv("PYTEST_PLUGINS")
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    monkeypatch.setenv("PYTEST_ADDOPTS", "-p pytest_channelstub")


@pytest.mark.parametrize("name", NAMES)
def test_the_plugin_may_be_named_beside_its_entry_point(pytester, monkeypatch, name):
    pytester.makepyfile(TEST)

    pytester.runpytest("-p", name).assert_outcomes(passed=1)
    monkeypatch.setenv("PYTEST_PLUGINS", name)
    pytester.runpytest().assert_outcomes(passed=1)


@pytest.mark.parametrize("name", NAMES)
def test_a_conftest_may_name_the_plugin_beside_its_entry_point(pytester, name):
    pytester.makeconftest(f"pytest_plugins = [{name!r}]")
    pytester.makepyfile(TEST)

    pytester.runpytest().assert_outcomes(passed=1)


@pytest.mark.parametrize("name", NAMES)
def test_the_plugin_is_switched_off_by_either_name(pytester, name):
    pytester.makepyfile("def test_it(channel_stub): pass")

    result = pytester.runpytest("-p", f"no:{name}")

    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*fixture 'channel_stub' not found"])
