"""Pages of the old days run as they are, in a real Chromium.

The libraries are stood in for by shims that have what the pages call: nothing is fetched.
"""

from __future__ import annotations

import contextlib
import json
import mimetypes
import threading
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlencode

import pytest

from pytest_channelstub import channel

pytestmark = pytest.mark.browser

PAGES = Path(__file__).with_name("pages")


def app(environ, start_response):
    """Serves the pages and their scripts, and a token for alice."""
    path = environ["PATH_INFO"]
    if environ["REQUEST_METHOD"] == "POST":
        body, kind = b"", "application/json"
        if path == "/token":
            body = json.dumps({"token": channel.create_channel("alice")}).encode()
    elif (PAGES / path[1:]).is_file():
        body, kind = (PAGES / path[1:]).read_bytes(), mimetypes.guess_type(path)[0]
    else:
        start_response("404 Not Found", [("Content-Type", "text/plain")])
        return [b""]
    start_response("200 OK", [("Content-Type", kind)])
    return [body]


@pytest.fixture(scope="session")
def channel_app():
    return app


@pytest.fixture(scope="module")
def window(browser):
    """One for all tests: to open another takes longer than most of them."""
    with contextlib.closing(browser.new_context()) as context:
        yield context.new_page()


@pytest.fixture
def open_page(window):
    """A function that opens a page, whose errors fail the test."""
    errors = []

    def note(error):
        errors.append(error.message)

    window.on("pageerror", note)

    def open_page(url):
        window.goto(url)
        return window

    yield open_page
    window.goto("about:blank")
    window.remove_listener("pageerror", note)
    assert errors == []


def expect_notes(page, *notes):
    from playwright.sync_api import expect  # noqa: PLC0415 (there is a browser)

    expect(page.locator("#notes li")).to_have_text(notes)


@pytest.mark.parametrize("library", ["jquery", "requirejs", "angularjs"])
def test_a_page_lives_its_whole_life(library, open_page, channel_server, channel_stub):
    page = open_page(channel_server.url_for(f"/{library}.html"))
    expect_notes(page, "open")
    for text in ("one", "grüß 猫"):
        channel.send_message("alice", json.dumps({"text": text}))
    expect_notes(page, "open", "one", "grüß 猫")
    page.evaluate("socket.close()")
    expect_notes(page, "open", "one", "grüß 猫", "closed")
    channel_stub.wait_for("close", "alice")
    assert not channel_stub.is_connected("alice")


@pytest.mark.parametrize("library", ["jquery", "requirejs", "angularjs"])
def test_a_page_learns_that_its_token_has_expired(
    library, open_page, channel_server, channel_clock
):
    page = open_page(channel_server.url_for(f"/{library}.html"))
    expect_notes(page, "open")
    channel_clock.advance(hours=2, seconds=1)
    expect_notes(page, "open", "401 Token+timed+out.", "closed")


class PageHandler(SimpleHTTPRequestHandler):
    """Serves the pages as they are, and keeps quiet."""

    def __init__(self, *args):
        super().__init__(*args, directory=PAGES)

    def log_message(self, *args):
        pass


@pytest.fixture
def other_url():
    """Where a server that knows nothing of channels has the pages: another port."""
    with ThreadingHTTPServer(("127.0.0.1", 0), PageHandler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.mark.parametrize("base_url", ["leaves", "sets", "prefixes", "prefixes_once"])
def test_a_page_on_another_port_reaches_the_service(
    base_url, other_url, open_page, channel_server, channel_stub
):
    token = channel.create_channel("alice")
    query = urlencode({"server": channel_server.url, "token": token, "base_url": base_url})
    page = open_page(f"{other_url}/another_port.html?{query}")
    expect_notes(page, "open")
    channel.send_message("alice", '{"text": "grüß 猫"}')
    expect_notes(page, "open", "grüß 猫")
    page.evaluate("socket.close()")
    channel_stub.wait_for("close", "alice")
    expect_notes(page, "open", "grüß 猫", "closed")
