"""What 20,000 tests leave behind in one process.

pip install . && python tests/benchmarks/memory.py

pytest itself keeps a report of every test, and a note of each fixture that rests on a wider
one, as channel_stub does on channel_app: a suite of tests that take such a fixture, which
gives object(), tells how much that is.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

CONFTEST = """
import gc
import os
import pytest

done = 0

@pytest.fixture(scope="session")
def wide():
    return None

@pytest.fixture
def thing(wide):
    yield object()

def resident():
    gc.collect()
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[1]) * os.sysconf("SC_PAGESIZE") / 1e6

def pytest_runtest_logfinish():
    global done, first
    done += 1
    if done == 1000:
        first = resident()
    elif done == 20_000:
        print(f"GREW {resident() - first:.2f}")
"""
SUITE = """
import pytest
from pytest_channelstub import channel

@pytest.mark.parametrize("n", range(20_000))
def test_it({fixtures}, n):
    {body}
"""
USES = (
    "token = channel.create_channel('alice'); channel_stub.connect_channel(token); "
    "channel.send_message('alice', 'hello'); channel_clock.advance(1)"
)


def growth(fixtures: str, body: str) -> float:
    """Megabytes between the 1,000th and the 20,000th test."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "pytest.ini").write_text("[pytest]\n")
        (folder / "conftest.py").write_text(CONFTEST)
        (folder / "test_it.py").write_text(SUITE.format(fixtures=fixtures, body=body))
        command = [sys.executable, "-m", "pytest", "-q", "-s", "-p", "no:randomly", str(folder)]
        run = subprocess.run(command, capture_output=True, text=True, check=True)  # noqa: S603
    return float(run.stdout.split("GREW ")[1].split()[0].rstrip("."))


if __name__ == "__main__":
    plain = growth("thing", "pass")
    ours = growth("channel_stub, channel_clock", USES)
    print(f"with object(): {plain:.1f} MB; with a stub that is used: {ours:.1f} MB")
    print(f"the plugin's part: {ours - plain:.1f} MB")
