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
def _entry_point(pytester, monkeypatch):
    """Have the entry point loaded, as it is where the plugin is installed."""
    monkeypatch.delenv("PYTEST_PLUGINS")
    pytester.makeini("[pytest]\naddopts = -p pytest_channelstub\n")


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
def test_the_plugin_is_switched_off_by_either_name(pytester, monkeypatch, name):
    monkeypatch.delenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD")
    pytester.makeini("[pytest]\nasyncio_default_fixture_loop_scope = function\n")
    pytester.makepyfile("def test_it(channel_stub): pass")

    result = pytester.runpytest("-p", f"no:{name}")

    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*fixture 'channel_stub' not found"])
