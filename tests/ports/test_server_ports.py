"""Small apps and suites of the old days run as they are: no channel part of them was edited."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

PORTS = Path(__file__).with_name("server")


@pytest.fixture
def run(pytester, monkeypatch):
    """A function that runs the tests of one port."""
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    monkeypatch.setenv("PYTEST_PLUGINS", "pytest_channelstub.plugin")

    def run(*names):
        for name in ("pytest.ini", *names):
            shutil.copy(PORTS / name, pytester.path)
        # The run that these tests belong to has the plugin loaded already.
        return pytester.runpytest_inprocess(
            "-W", "default", "-W", "ignore::pytest.PytestAssertRewriteWarning", names[-1]
        )

    return run


def test_a_handler_that_relays_the_body_of_a_request(run):
    run("relay.py", "test_relay.py").assert_outcomes(passed=7)
