"""What pytest's start loads."""

from __future__ import annotations

import subprocess
import sys

UNWANTED = ("freezegun", "google", "http", "asyncio", "werkzeug", "wsgiref", "hashlib", "json")


def test_the_plugin_imports_no_freezegun_google_http_or_asyncio():
    code = (
        "import pytest, sys; before = {*sys.modules}; import pytest_channelstub.plugin; "
        "print(*sorted({*sys.modules} - before))"
    )
    run = subprocess.run(  # noqa: S603 (our own code)
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )

    loaded = run.stdout.split()

    assert "pytest_channelstub.plugin" in loaded
    assert [name for name in loaded if name.partition(".")[0] in UNWANTED] == []
    assert "pytest_channelstub.stub" not in loaded
