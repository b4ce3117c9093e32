"""What pytest's start loads, and what works where pytest never starts."""

from __future__ import annotations

import subprocess
import sys

UNWANTED = ("freezegun", "google", "http", "asyncio", "urllib", "werkzeug", "wsgiref")


def printed_by(code):
    run = subprocess.run(  # noqa: S603 (our own code)
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    return run.stdout


def test_the_plugin_imports_no_freezegun_google_http_or_asyncio():
    code = (
        "import pytest, sys; before = {*sys.modules}; import pytest_channelstub.plugin; "
        "print(*sorted({*sys.modules} - before))"
    )
    loaded = printed_by(code).split()

    assert "pytest_channelstub.plugin" in loaded
    assert [name for name in loaded if name.partition(".")[0] in UNWANTED] == []
    for name in ("_service.stub", "_service.delivery", "_record.timeline"):
        assert f"pytest_channelstub.{name}" not in loaded


def test_a_stub_is_whole_where_no_pytest_runs():
    code = """if True:
        import sys
        from pytest_channelstub import ChannelServiceStub, FakeClock, channel

        with ChannelServiceStub(time_func=FakeClock().time) as stub:
            token = channel.create_channel("alice")
            stub.connect_channel(token)
            channel.send_message("alice", "hello")
            print(stub.pop_first_message(token), "pytest" in sys.modules)
    """

    assert printed_by(code) == "hello False\n"


def test_what_a_stub_has_recorded_goes_with_it_and_waits_for_no_collector():
    code = """if True:
        import gc, weakref
        from pytest_channelstub import ChannelServiceStub, FakeClock

        gc.disable()
        stub = ChannelServiceStub(time_func=FakeClock().time)
        timeline = weakref.ref(stub.timeline)
        del stub
        print(timeline())
    """

    assert printed_by(code) == "None\n"


def test_a_stub_leaves_the_logging_of_a_program_as_it_is():
    code = """if True:
        import logging
        from pytest_channelstub import ChannelServiceStub, FakeClock, channel

        with ChannelServiceStub(time_func=FakeClock().time) as stub:
            stub.connect_channel(channel.create_channel("alice"))
        print(logging.getLogger().handlers)
    """

    assert printed_by(code) == "[]\n"
