"""What the tests of the frameworks share."""

from __future__ import annotations

import importlib
import shutil
import warnings
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).with_name("examples")
collect_ignore = ["examples"]  # test_examples.py runs them, with a pytest.ini of their own


@pytest.fixture(autouse=True)
def _only_this_plugin(monkeypatch):
    """Runs within a test load this plugin alone: quicker, and always the same."""
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    monkeypatch.setenv("PYTEST_PLUGINS", "pytest_channelstub.plugin")


@pytest.fixture
def copy_example(pytester):
    """A function that copies a framework's example, and returns its directory."""

    def copy_example(framework):
        for name in ("pytest.ini", f"{framework}_app.py", f"test_{framework}_app.py"):
            shutil.copy(EXAMPLES / name, pytester.path)
        return pytester.path

    return copy_example


@pytest.fixture
def require():
    """A function that skips the test where a module is not installed.

    It imports the modules, so that the runs within this process find them imported.
    """

    def require(*names):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # theirs, such as WebOb's of the module cgi
                for name in names:
                    importlib.import_module(name)
        except ImportError as error:
            pytest.skip(f"{error.name} is not installed: pip install '.[frameworks]'")

    return require
