"""What the plugin costs a run of pytest: its start, and each test.

pip install '.[test]' && pytest -p no:randomly tests/benchmarks/runs.py

Measured as processor time, the least of several runs that take turns: the wall of a busy
machine says little.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys

import pytest

TESTS = 3000
OBJECT = """
import pytest

@pytest.fixture
def thing():
    return object()

@pytest.mark.parametrize("n", range({tests}))
def test_it(thing, n):
    pass
"""
STUB = """
import pytest

@pytest.mark.parametrize("n", range({tests}))
def test_it(channel_stub, n):
    pass
"""
FREEZE = STUB.replace("@pytest", '@pytest.mark.channel_stub(clock="freeze")\n@pytest', 1)
FREEZEGUN = OBJECT.replace("return object()", "with freeze_time('2020-01-01'): yield").replace(
    "import pytest", "import pytest\nfrom freezegun import freeze_time", 1
)


@pytest.fixture
def seconds(tmp_path):
    """The processor seconds of runs of several suites, the least of `rounds` each."""

    def measure(suites, rounds):
        for name, (code, _) in suites.items():
            folder = tmp_path / name
            folder.mkdir()
            (folder / "pytest.ini").write_text("[pytest]\n")
            (folder / "test_it.py").write_text(code)
        best = dict.fromkeys(suites, 9e9)
        for _ in range(rounds):
            for name, (_, plugins) in suites.items():
                best[name] = min(best[name], run(tmp_path / name, plugins))
        return best

    return measure


def run(folder, plugins):
    environment = {**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    environment.pop("PYTEST_PLUGINS", None)
    plugins = [part for name in plugins for part in ("-p", name)]
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *plugins, folder]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, env=environment, stdout=subprocess.DEVNULL, check=True)  # noqa: S603
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


PLUGIN = ("pytest_channelstub.plugin",)


def test_start(table, seconds):
    nothing = "def test_it(): pass\n"
    best = seconds({"without": (nothing, ()), "with": (nothing, PLUGIN)}, 25)
    table("pytest's start with the plugin over without", best["with"] / best["without"], 1.06, "")


def test_a_test_that_takes_the_stub(table, seconds):
    suites = {
        "object": (OBJECT.format(tests=TESTS), PLUGIN),
        "stub": (STUB.format(tests=TESTS), PLUGIN),
    }
    best = seconds(suites, 6)
    table(
        "a test that takes `channel_stub` over one that takes `object()`",
        best["stub"] / best["object"],
        1.15,
        "",
    )
    print(f"{(best['stub'] - best['object']) / TESTS * 1e6:.1f} us a test")


def test_a_test_on_a_frozen_clock(table, seconds):
    suites = {
        "freezegun": (FREEZEGUN.format(tests=300), PLUGIN),
        "freeze": (FREEZE.format(tests=300), PLUGIN),
    }
    best = seconds(suites, 4)
    table(
        "a test with `clock='freeze'` over one in a plain `freeze_time`",
        best["freeze"] / best["freezegun"],
        1.10,
        "",
    )
