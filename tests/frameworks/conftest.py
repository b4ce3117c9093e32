"""What the tests of the frameworks share."""

from __future__ import annotations

import importlib
import warnings

import pytest

collect_ignore = ["examples"]  # test_examples.py runs them, with a pytest.ini of their own


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
