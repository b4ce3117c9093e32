"""`python -m pytest_channelstub.web`: a development server for an app with its channels."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from contextlib import closing

import pytest

from pytest_channelstub import ChannelServiceStub, FakeClock, channel
from pytest_channelstub.web import ChannelServer
from pytest_channelstub.web import __main__ as command

APP = """
import time

from google.appengine.api import channel

def app(environ, start_response):
    if environ["PATH_INFO"] == "/broken":
        raise LookupError("the app is broken")
    if environ["PATH_INFO"] == "/later":
        later = time.time() + 2
        time.time = lambda: later
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [channel.create_channel("alice").encode()] if environ["PATH_INFO"] == "/token" else []

def make_app():
    return app

async def asgi(scope, receive, send): ...
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The working directory, with an app in it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    (tmp_path / "the_app.py").write_text(APP)
    yield tmp_path
    sys.modules.pop("the_app", None)


@pytest.fixture
def serve(folder):
    """Run the command on a free port, and give its process and the URL that it prints."""
    processes = []

    def serve(app):
        arguments = [sys.executable, "-m", "pytest_channelstub.web", app, "--port", "0"]
        process = subprocess.Popen(  # noqa: S603 (our own command)
            arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        processes.append(process)
        return process, process.stdout.readline().split()[3]

    yield serve
    for process in processes:
        process.kill()
        process.communicate()


def get(url):
    with urllib.request.urlopen(url, timeout=10) as answer:  # noqa: S310 (our own server)
        return answer.read().decode()


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGINT to send")
def test_it_serves_the_app_and_prints_each_event_until_ctrl_c(serve):
    process, url = serve("the_app:app")
    token = get(f"{url}/token")
    assert get(f"{url}/_ah/channel/dev?command=connect&channel={token}") == "1"
    with pytest.raises(urllib.error.HTTPError, match="500"):
        get(f"{url}/broken")
    get(f"{url}/later")
    seen = [process.stdout.readline() for _ in range(4)]
    assert [line.split()[0] for line in seen] == ["create", "connect", "request", "timeout"]
    assert "alice /_ah/channel/connected/ -> 200 OK" in seen[2]
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=10)
    assert process.returncode == 0
    assert out.splitlines()[-1] == "Stopped."
    assert err.splitlines()[-1] == "LookupError: the app is broken"
    assert err.count("Traceback") == 1


@pytest.mark.skipif(os.name == "nt", reason="Windows ends a process at SIGTERM without asking it")
def test_sigterm_stops_it_as_ctrl_c_does(serve):
    process, _ = serve("the_app:app")
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=10)
    assert (process.returncode, out, err) == (0, "Stopped.\n", "")


def test_the_app_may_be_what_a_factory_makes(folder):
    (folder / "factory.py").write_text("class apps:\n    make = lambda: print")
    assert command._load("factory:apps.make()") is print


@pytest.mark.parametrize(
    ("app", "line"),
    [
        ("no_such_module:app", "No module named 'no_such_module'"),
        ("the_app:nothing", "module 'the_app' has no attribute 'nothing'"),
        ("the_app:asgi", "an ASGI callable"),
        ("the_app:make_app", "it looks like an app factory; pass what it returns, make_app()"),
        ("broken_app:app", "ZeroDivisionError: division by zero ("),
    ],
)
def test_an_app_that_cannot_be_served_is_one_line(folder, capsys, app, line):
    (folder / "broken_app.py").write_text("app = 1 / 0")
    assert command.main([app]) == 1
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert line in err


def test_a_port_that_is_taken_or_out_of_range_is_one_line(folder, capsys):
    with closing(socket.create_server(("127.0.0.1", 0))) as server:
        port = server.getsockname()[1]
        assert command.main(["the_app:app", "--port", str(port)]) == 1
    assert f"cannot listen on port {port} of 127.0.0.1: " in capsys.readouterr().err
    assert command.main(["the_app:app", "--port", "65536"]) == 1
    assert capsys.readouterr().err.endswith(": a port is a number from 0 to 65535\n")


@pytest.mark.parametrize(
    ("arguments", "status", "text"),
    [
        (["--help"], 0, "Ctrl-C stops it"),
        ([], 2, "MODULE:APP"),
        (["the_app"], 2, "pass MODULE:APP, such as the_app:app"),
        (["the_app:app", "--port", "many"], 2, "--port"),
    ],
)
def test_the_command_line_is_explained(capsys, arguments, status, text):
    with pytest.raises(SystemExit) as stopped:
        command.main(arguments)
    assert stopped.value.code == status
    assert text in "".join(capsys.readouterr())


def test_a_request_that_is_under_way_at_the_end_keeps_no_event_back(capsys):
    with ChannelServiceStub(time_func=FakeClock().time) as stub, ChannelServer(stub) as server:
        is_here, goes_on = threading.Event(), threading.Event()

        def app(environ, start_response):
            is_here.set()
            goes_on.wait(10)
            start_response("200 OK", [])
            return []

        stub.app = app
        token = channel.create_channel("alice")
        connects = threading.Thread(target=stub.connect_channel, args=[token])
        connects.start()
        assert is_here.wait(10)
        channel.send_message("alice", "hello")
        stopped = threading.Event()
        stopped.set()

        command._follow(stub, server, stopped)

        goes_on.set()
        connects.join(10)
    kinds = [line.split()[0] for line in capsys.readouterr().out.splitlines()]
    assert kinds == ["create", "connect", "request", "send"]
