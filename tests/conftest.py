"""What the project's own tests share."""

from __future__ import annotations

import contextlib
import functools
import importlib
import importlib.metadata
import os
import pkgutil
import random
import shutil
import socket
import sys
import warnings
from collections import Counter

import pytest

import pytest_channelstub
from pytest_channelstub._record.settings import settings

# The first is the same engine without windows: it opens a page in a third of the time.
CHROMIUM = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome")
FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking"]
IN_BROWSERS = ("test_browser.py", "test_chat_in_browsers.py", "test_page_ports.py")
WAYS = 2  # in which test_conformance.py replays a trace


@pytest.hookimpl(tryfirst=True)  # before xdist reads the number
def pytest_cmdline_main(config):
    """Run the whole suite on every core, unless -n or a debugger says otherwise."""
    is_whole = config.args_source is config.ArgsSource.TESTPATHS
    is_worker = "PYTEST_XDIST_WORKER" in os.environ
    unasked = getattr(config.option, "numprocesses", 0) is None  # 0 without xdist
    if is_whole and unasked and not is_worker and not config.option.usepdb:
        config.option.numprocesses = os.cpu_count()


@pytest.hookimpl(optionalhook=True)  # xdist's
def pytest_xdist_make_scheduler(config, log):
    """Hand out whole modules, and all that start a browser to one worker: two are no quicker."""
    from xdist.scheduler import LoadScopeScheduling  # noqa: PLC0415 (where xdist runs)

    class Scheduling(LoadScopeScheduling):
        def _split_scope(self, nodeid):
            module = nodeid.partition("::")[0]
            return "in browsers" if module.endswith(IN_BROWSERS) else module

    return Scheduling(config, log)


def pytest_sessionstart(session):
    """Prepare a process that runs tests, which the one that xdist's workers report to is not."""
    if getattr(session.config.option, "numprocesses", None):
        return
    settings.full = False  # with -vv, too, tests see what failures say without it
    with _plain_asserts():
        _set_up_hypothesis()
        _import_what_inner_runs_need()
    _read_metadata_once()
    _allow_inner_runs_plain_asserts()


@contextlib.contextmanager
def _plain_asserts():
    """Import without pytest's rewriting of asserts, which takes a second where none is cached."""
    finders = sys.meta_path[:]
    sys.meta_path[:] = [finder for finder in finders if not hasattr(finder, "mark_rewrite")]
    yield
    sys.meta_path[:] = finders


def _set_up_hypothesis():
    """Choose settings with which no test fails by chance.

    Examples have no time limit, and are the same at every run in CI. CHANNELSTUB_LONG=1 tries
    Hypothesis' usual number of them.
    """
    import hypothesis  # noqa: PLC0415 (where tests run)

    hypothesis.settings.register_profile(
        "ours",
        deadline=None,
        database=None,
        derandomize="CI" in os.environ,
        max_examples=100 if os.environ.get("CHANNELSTUB_LONG") else 20,
    )
    hypothesis.settings.load_profile("ours")


def _import_what_inner_runs_need():
    """Import what pytester's runs within this process would import anew, each for a second.

    pytester takes what they import out of sys.modules again. What is there before stays, and so
    every module of the package exists once.
    """
    importlib.import_module("freezegun.api")
    for module in pkgutil.walk_packages(pytest_channelstub.__path__, "pytest_channelstub."):
        if not module.name.endswith("__main__"):
            with contextlib.suppress(ImportError):  # an extra that is not installed
                importlib.import_module(module.name)


def _read_metadata_once():
    """Read what is installed once: each inner run spends 11 of its 53 ms on it otherwise."""
    distributions = list(importlib.metadata.distributions())
    importlib.metadata.distributions = lambda **_: iter(distributions)
    for name in ("metadata", "entry_points", "files"):
        read = getattr(importlib.metadata.PathDistribution, name).fget
        setattr(importlib.metadata.PathDistribution, name, property(functools.cache(read)))


def _allow_inner_runs_plain_asserts():
    """Runs within this process need not warn that the package's asserts are not rewritten."""
    for name, module in sys.modules.items():
        if name.startswith("pytest_channelstub"):
            module.__doc__ = f"{module.__doc__} PYTEST_DONT_REWRITE"


def pytest_terminal_summary(terminalreporter):
    """Tell how many recorded steps of the SDK's stub were replayed, in both ways."""
    replayed = Counter(
        tuple(value)
        for report in terminalreporter.getreports("passed")
        for name, value in report.user_properties
        if name == "conformance steps"
    )
    agree = [steps for (_, steps), ways in replayed.items() if ways == WAYS]
    if agree:
        terminalreporter.write_line(
            f"conformance: {sum(agree):,} recorded steps in {len(agree)} traces replayed, "
            "each in two ways, and all agree"
        )


@pytest.fixture
def free_port():
    """A port that is free, and so is the next, where no outgoing connection takes them."""
    chance = random.Random()
    while True:
        port = chance.randrange(10_000, 30_000)
        with contextlib.suppress(OSError), contextlib.ExitStack() as ends:
            for number in (port, port + 1):
                ends.enter_context(socket.create_server(("127.0.0.1", number)))
            return port


@pytest.fixture(scope="session")
def chromium():
    """The path of a Chromium's program, or None."""
    return os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, CHROMIUM)), None)


@pytest.fixture(scope="module")
def browser(chromium):
    """A real Chromium; where there is none the test is skipped, and in CI it fails."""
    missing = pytest.fail if os.environ.get("CI") else pytest.skip
    if chromium is None:
        missing("no Chromium: install one, or set CHROMIUM to the path of its program")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            from playwright.sync_api import sync_playwright  # noqa: PLC0415 (slow, and an extra)
    except ImportError:
        missing("no Playwright: pip install playwright")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=FLAGS)
        yield browser
        browser.close()
