"""The fixture `channel_server`, in test suites of its users."""

from __future__ import annotations

import socket
import sys
from contextlib import closing

import pytest

pytest_plugins = ["pytester"]

APP = """
    import urllib.error, urllib.request
    import pytest
    from pytest_channelstub import channel

    servers = []

    def get(url):
        try:
            with urllib.request.urlopen(url, timeout=10) as answer:
                return answer.status
        except urllib.error.HTTPError as error:
            with error:
                return error.code

    def app(environ, start_response):
        if environ["PATH_INFO"] == "/broken":
            raise LookupError("the app is broken")
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [b"hello"]

    @pytest.fixture(scope="session")
    def channel_app():
        return app
"""


@pytest.fixture
def run(pytester, monkeypatch):
    """Run a suite with no plugin but ours."""
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")

    def run(tests, *arguments):
        pytester.makeconftest(APP)
        pytester.makepyfile("from conftest import *\n" + tests)
        # An editable install has imported the plugin without rewriting its asserts.
        quietly = ("-W", "ignore::pytest.PytestAssertRewriteWarning")
        return pytester.runpytest("-p", "pytest_channelstub.plugin", *arguments, *quietly)

    return run


def test_it_serves_the_app_and_the_stub_of_the_test(run):
    result = run("""
def test_one(channel_server, channel_stub):
    assert get(channel_server.url_for("/hello")) == 200
    token = channel.create_channel("alice")
    url = channel_server.url_for("/_ah/channel/dev", command="connect", channel=token)
    assert get(url) == 200
    assert channel_stub.is_connected("alice")
    assert [request.status for request in channel_stub.requests] == [200]
""")
    result.assert_outcomes(passed=1)


def test_an_exception_in_the_app_fails_the_test_with_its_traceback_once(run):
    result = run("""
def test_one(channel_server):
    assert get(channel_server.url_for("/broken")) == 500

def test_two(channel_server):
    assert get(channel_server.url_for("/hello")) == 200
""")
    result.assert_outcomes(failed=1, passed=1)
    text = result.stdout.str()
    assert text.count('>           raise LookupError("the app is broken")') == 1
    assert "_answer_request" not in text


def test_a_test_that_fails_by_itself_shows_the_apps_exception_beside(run):
    result = run("""
def test_one(channel_server):
    assert get(channel_server.url_for("/broken")) == 200
""")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        [
            "*assert 500 == 200*",
            "*error of the app under channel_server*",
            "LookupError: the app is broken",
        ]
    )


def test_an_expected_exception_is_taken_from_the_list(run):
    result = run("""
def test_one(channel_server):
    get(channel_server.url_for("/broken"))
    [error] = channel_server.take_errors()
    assert str(error) == "the app is broken"
""")
    result.assert_outcomes(passed=1)


def test_an_exception_after_the_test_is_an_error_at_its_teardown(run):
    result = run("""
@pytest.fixture
def browser(channel_server):
    yield
    get(channel_server.url_for("/broken"))

def test_one(browser):
    pass
""")
    result.assert_outcomes(passed=1, errors=1)
    result.stdout.fnmatch_lines(["*LookupError: the app is broken"])


def test_a_server_of_a_wider_scope_blames_the_test_that_was_running(run):
    result = run(
        """
def test_one(channel_server):
    get(channel_server.url_for("/hello"))

def test_two(channel_server):
    get(channel_server.url_for("/broken"))

def test_three(channel_server):
    get(channel_server.url_for("/hello"))
""",
        "-o",
        "channelstub_scope=module",
    )
    result.assert_outcomes(passed=2, failed=1)
    result.stdout.fnmatch_lines(["FAILED *::test_two*"])


def test_an_exception_in_a_tests_teardown_under_a_shared_server_is_that_tests(run):
    result = run(
        """
@pytest.fixture
def browser(channel_server):
    yield
    get(channel_server.url_for("/broken"))

def test_one(browser): pass

def test_two(channel_server): pass
""",
        "-o",
        "channelstub_scope=session",
    )
    result.assert_outcomes(passed=2, errors=1)
    result.stdout.fnmatch_lines(["ERROR *::test_one*"])


def test_an_exception_in_the_teardown_of_a_test_that_failed_is_shown_and_no_error(run):
    result = run("""
@pytest.fixture
def browser(channel_server):
    yield
    get(channel_server.url_for("/broken"))

def test_one(browser):
    assert False
""")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        [
            "*error of the app under channel_server in teardown*",
            "LookupError: the app is broken",
        ]
    )


def test_an_exception_between_two_tests_is_reported_at_the_runs_end(run, pytester):
    pytester.syspathinsert()
    pytester.makepyfile(
        between="""
        def pytest_runtest_logfinish(nodeid):
            if nodeid.endswith("::test_one"):
                import conftest
                conftest.get(conftest.servers[0].url_for("/broken"))
        """
    )
    result = run(
        """
@pytest.fixture(scope="session")
def server(channel_server):
    servers.append(channel_server)

def test_one(server): pass

def test_two(server): pass
""",
        "-o",
        "channelstub_scope=session",
        "-p",
        "between",
    )
    result.assert_outcomes(passed=2)
    result.stdout.fnmatch_lines(
        ["channelstub: after *::test_one the app raised: LookupError: the app is broken"]
    )


def test_the_port_can_be_fixed_and_stands_in_the_header(run, free_port):
    port = free_port
    result = run(
        f"""
def test_one(channel_server):
    assert channel_server.port == {port}
""",
        f"--channelstub-port={port}",
    )
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines([f"channelstub: port={port} (from --channelstub-port)"])


def test_a_port_that_is_taken_is_one_line_that_says_so(run):
    with closing(socket.create_server(("127.0.0.1", 0))) as server:
        port = server.getsockname()[1]
        result = run("def test_one(channel_server): pass", f"--channelstub-port={port}")
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines([f"*cannot listen on port {port} of 127.0.0.1*"])
    result.stdout.no_fnmatch_line("*Traceback*")


def test_without_werkzeug_the_error_gives_the_pip_command(run, monkeypatch):
    monkeypatch.setitem(sys.modules, "werkzeug", None)
    monkeypatch.setitem(sys.modules, "werkzeug.serving", None)
    monkeypatch.delitem(sys.modules, "pytest_channelstub.web.server", raising=False)
    result = run("""
def test_one(channel_server):
    pass

def test_two(channel_stub):
    from pytest_channelstub.web import ChannelMiddleware
    ChannelMiddleware(channel_stub)
""")
    result.assert_outcomes(passed=1, errors=1)
    result.stdout.fnmatch_lines(["*pip install 'pytest-channelstub?server?'*"])
    result.stdout.no_fnmatch_line("*Traceback*")


def test_nothing_is_left_open_and_nothing_is_printed(run):
    result = run(
        """
import threading, urllib.request

def test_one(channel_server, channel_stub):
    token = channel.create_channel("alice")
    url = channel_server.url_for("/_ah/channel/dev", command="poll", channel=token, wait=30)
    threading.Thread(target=get, args=(url,)).start()
    channel_stub.wait_for("poll")

def test_two():
    names = [thread.name for thread in threading.enumerate()]
    assert not [name for name in names if name.startswith("channel")]
""",
        "-W",
        "error",
        "-s",
    )
    result.assert_outcomes(passed=2)
    assert "HTTP/1.1" not in result.stdout.str() + result.stderr.str()


def test_an_answer_of_500_is_warned_of_at_the_test_where_the_app_is_a_frameworks_object(
    run, pytester
):
    library = pytester.path / "site-packages"
    library.mkdir()
    (library / "framework.py").write_text("""
class Framework:
    def __call__(self, environ, start_response):
        start_response("500 Internal Server Error", [("Content-Type", "text/plain")])
        return [b"Traceback: it is broken"]
""")
    result = run(
        """
import sys
sys.path.append("site-packages")
from framework import Framework
from pytest_channelstub import assert_sent

@pytest.fixture(scope="session")
def channel_app():
    return Framework()

def test_one(channel_server, channel_stub):
    get(channel_server.url_for("/page"))
    assert_sent(channel_stub, "alice", "hello")
""",
        "-W",
        "default",
    )
    result.assert_outcomes(failed=1, warnings=1)
    result.stdout.fnmatch_lines(
        [
            "*the app answered 500 Internal Server Error to GET /page (+0.0 s), and what*",
            "*Fix the handler of GET /page. Its answer began 'Traceback: it is broken'.*",
            "*request * GET /page -> 500 Internal Server Error: 'Traceback: it is broken'",
            "*test_an_answer_*.py:12: ChannelAppWarning: the app answered '500 *' to GET /page*",
        ]
    )


def test_a_page_of_an_earlier_test_says_goodbye_to_no_app(run):
    result = run(
        """
def say(channel_server, command, token):
    url = channel_server.url_for("/_ah/channel/dev", command=command, channel=token, page="p")
    assert get(url) == 200

tokens = []

def test_one(channel_server, channel_stub):
    tokens.append(channel.create_channel("alice"))
    say(channel_server, "connect", tokens[0])
    assert [request.status for request in channel_stub.requests] == [200]

def test_two(channel_server, channel_stub):
    say(channel_server, "poll", tokens[0])
    say(channel_server, "disconnect", tokens[0])
    assert channel_stub.requests == ()
    assert list(channel_stub.timeline) == []
    assert channel_stub.is_connected("alice")
""",
        "-o",
        "channelstub_scope=session",
    )
    result.assert_outcomes(passed=2)


def test_an_error_of_the_app_in_a_skipped_test_is_not_lost(run):
    result = run("""
def test_one(channel_server):
    assert get(channel_server.url_for("/broken")) == 500
    pytest.skip("later")
""")
    result.assert_outcomes(skipped=1, errors=1)
    result.stdout.fnmatch_lines(["*LookupError: the app is broken"])


def test_a_warning_of_an_answer_points_to_the_test_and_not_to_its_decorator(run):
    result = run(
        """
from unittest import mock

@pytest.fixture(scope="session")
def channel_app():
    def app(environ, start_response):
        start_response("500 Oh", [])
        return []
    app.__wrapped__ = pytest.fixture
    return app

@mock.patch("os.getcwd")
def test_one(getcwd, channel_server):
    assert get(channel_server.url) == 500
""",
        "-Wdefault",
    )
    result.stdout.no_fnmatch_line("*mock.py:*")
