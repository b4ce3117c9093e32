"""Pages of the old days run as they are, in a real Chromium.

The libraries are stood in for by shims that have what the pages call: nothing is fetched.
"""

from __future__ import annotations

import contextlib
import json
import mimetypes
from pathlib import Path

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


@pytest.fixture
def open_page(browser):
    """A function that opens a page, whose errors fail the test."""
    errors = []
    with contextlib.closing(browser.new_context()) as context:

        def open_page(url):
            page = context.new_page()
            page.on("pageerror", lambda error: errors.append(error.message))
            page.goto(url)
            return page

        yield open_page
    assert errors == []


def expect_notes(page, *notes):
    from playwright.sync_api import expect  # noqa: PLC0415 (there is a browser)

    expect(page.locator("#notes li")).to_have_text(notes)


@pytest.mark.parametrize("library", ["jquery", "angularjs"])
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


@pytest.mark.parametrize("library", ["jquery", "angularjs"])
def test_a_page_learns_that_its_token_has_expired(
    library, open_page, channel_server, channel_clock
):
    page = open_page(channel_server.url_for(f"/{library}.html"))
    expect_notes(page, "open")
    channel_clock.advance(hours=2, seconds=1)
    expect_notes(page, "open", "401 Token+timed+out.", "closed")
