"""The table that stands at the end of a run of the benchmarks."""

from __future__ import annotations

import platform
import sys

import pytest

# On the machine on which the budgets were set, an md5 of 60 bytes took this long, in seconds.
REFERENCE = 0.88e-6


@pytest.fixture(scope="session")
def table(pytestconfig):
    """Rows of what was measured: name, figure, budget, unit; filled by the benchmarks."""
    rows = pytestconfig.stash.setdefault(_ROWS, [])

    def add(what, figure, budget, unit):
        rows.append((what, figure, budget, unit))

    return add


@pytest.fixture(scope="session")
def seconds_of_md5(pytestconfig):
    """How long the md5 takes here that the budgets in seconds are scaled by."""
    import hashlib  # noqa: PLC0415 (timed below)
    import timeit  # noqa: PLC0415

    data = b"x" * 60
    timer = timeit.Timer(lambda: hashlib.md5(data).hexdigest())  # noqa: S324 (a yardstick)
    seconds = min(timer.repeat(20, 20_000)) / 20_000
    pytestconfig.stash[_MD5] = seconds
    return seconds


_ROWS = pytest.StashKey[list]()
_MD5 = pytest.StashKey[float]()


def pytest_terminal_summary(terminalreporter, config):
    """Print the table."""
    rows = config.stash.get(_ROWS, [])
    if not rows:
        return
    md5 = config.stash.get(_MD5, REFERENCE)
    scale = md5 / REFERENCE
    write = terminalreporter.write_line
    write("")
    write(f"Python {sys.version.split()[0]} on {platform.processor() or platform.machine()}")
    write(f"md5 of 60 bytes: {md5 * 1e6:.2f} us; budgets in us are scaled by {scale:.2f}")
    write("")
    write("| what | measured | budget here | |")
    write("| --- | --- | --- | --- |")
    for what, figure, budget, unit in rows:
        limit = budget * scale if unit == "us" else budget
        verdict = "within" if figure <= limit else "missed"
        write(
            f"| {what} | {figure:.2f} {unit} | {limit:.2f} {unit} | {verdict} |".replace("  ", " ")
        )
