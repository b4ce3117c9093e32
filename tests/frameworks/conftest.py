"""What the tests of the frameworks share."""

from __future__ import annotations

import importlib
import re
import warnings
from pathlib import Path

import pytest

PAGE = Path(__file__).parents[2] / "docs" / "testing-an-app.md"
NAMED_FILE = re.compile(r"^```python\n# (\w+\.py)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
SETTINGS = """
[pytest]
pythonpath = .
addopts = --strict-markers --strict-config
channelstub_appengine = always
"""


@pytest.fixture(autouse=True)
def _only_this_plugin(monkeypatch):
    """Runs within a test load this plugin alone: quicker, and always the same."""
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    monkeypatch.setenv("PYTEST_PLUGINS", "pytest_channelstub.plugin")


def read_examples():
    """Yield the files of each section of the page: their names and texts."""
    for section in PAGE.read_text("utf-8").split("\n## "):
        yield dict(NAMED_FILE.findall(section))


@pytest.fixture
def write_example(pytester):
    """A function that writes a framework's app and its tests, and returns their directory."""

    def write_example(framework):
        first, *others = read_examples()
        files = next(each for each in (first, *others) if f"{framework}_app.py" in each)
        files = {"pytest.ini": SETTINGS, "test_app.py": first["test_app.py"], **files}
        for name, text in files.items():
            (pytester.path / name).write_text(text, "utf-8")
        return pytester.path

    return write_example


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
