"""The table that stands at the end of a run of the benchmarks."""

from __future__ import annotations

import hashlib
import platform
import sys
import time
import timeit

import pytest


@pytest.fixture(scope="session")
def table(pytestconfig):
    """Rows of what was measured: name, figure, budget, unit; filled by the benchmarks."""
    rows = pytestconfig.stash.setdefault(_ROWS, [])

    def add(what, figure, budget, unit):
        rows.append((what, figure, budget, unit))

    return add


@pytest.fixture(scope="session")
def seconds_of_md5(pytestconfig):
    """How long an md5 of 60 bytes takes here: the unit of the calls' budgets."""
    data = b"x" * 60
    timer = timeit.Timer(lambda: hashlib.md5(data).hexdigest(), timer=time.thread_time)  # noqa: S324 (a unit)
    seconds = min(timer.repeat(50, 5000)) / 5000
    pytestconfig.stash[_MD5] = seconds
    return seconds


_ROWS = pytest.StashKey[list]()
_MD5 = pytest.StashKey[float]()


def pytest_terminal_summary(terminalreporter, config):
    """Print the table."""
    rows = config.stash.get(_ROWS, [])
    if not rows:
        return
    write = terminalreporter.write_line
    write("")
    write(f"Python {sys.version.split()[0]} on {platform.processor() or platform.machine()}")
    if _MD5 in config.stash:
        write(f"an md5 of 60 bytes: {config.stash[_MD5] * 1e6:.2f} us")
    write("")
    write("| what | measured | budget | |")
    write("| --- | --- | --- | --- |")
    for what, figure, budget, unit in rows:
        verdict = "within" if figure <= budget else "missed"
        write(f"| {what} | {figure:.2f} {unit} | {budget} {unit} | {verdict} |".replace("  ", " "))
