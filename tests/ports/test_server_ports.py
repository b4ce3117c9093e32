"""Small apps and suites of the old days run as they are: no channel part of them was edited."""

from __future__ import annotations

import importlib.util
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


def has_sdk():
    try:
        return importlib.util.find_spec("google.appengine.ext.testbed") is not None
    except ModuleNotFoundError:
        return False


@pytest.mark.skipif(not has_sdk(), reason="UserRPC is the App Engine SDK's: '.[appengine]'")
def test_an_asynchronous_sender_by_user_rpc(run):
    run("user_rpc_sender.py", "user_rpc_suite.py").assert_outcomes(passed=4)


def test_an_asynchronous_sender_by_create_rpc(run):
    run("create_rpc_sender.py", "test_create_rpc_sender.py").assert_outcomes(passed=4)


def test_a_handler_that_relays_the_body_of_a_request(run):
    run("relay.py", "test_relay.py").assert_outcomes(passed=7)


def test_a_suite_with_a_mock_behind_the_endpoints(run):
    run("mock_stub_suite.py").assert_outcomes(passed=8)
