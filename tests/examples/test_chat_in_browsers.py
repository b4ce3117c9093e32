"""The chat's own page in real browsers, on the test's clock.

Needs `pip install playwright 'pytest-channelstub[server]'` and a Chromium.
"""

from __future__ import annotations

import contextlib
import os
import shutil

import pytest

pytest.importorskip("werkzeug", reason="needs pytest-channelstub[server]")
sync_api = pytest.importorskip("playwright.sync_api", reason="needs Playwright")

pytestmark = pytest.mark.browser
PROGRAMS = ("chromium-headless-shell", "chromium", "google-chrome")
FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking"]


@pytest.fixture(scope="module")
def chromium():
    path = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, PROGRAMS)), None)
    if path is None:
        missing = pytest.fail if os.environ.get("CI") else pytest.skip
        missing("no Chromium: install one, or set CHROMIUM to the path of its program")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=FLAGS)
        yield browser
        browser.close()


class Window:
    """A browser of its own, with the chat's page open."""

    def __init__(self, context, url):
        self.page = context.new_page()
        self.page.goto(url)
        self.present = self.page.locator("#present")
        self.messages = self.page.locator("#messages li")

    def join(self, name):
        self.page.fill("#join input", name)
        self.page.click("#join button")
        sync_api.expect(self.present).to_contain_text(name)
        return self

    def say(self, text):
        self.page.fill("#say input", text)
        self.page.click("#say button")


@pytest.fixture
def open_browser(chromium, channel_server):
    """A function: another browser, with its own cookies, at the chat's page."""
    with contextlib.ExitStack() as ends:

        def open_browser():
            context = ends.enter_context(contextlib.closing(chromium.new_context()))
            return Window(context, channel_server.url)

        yield open_browser


def test_a_user_with_two_browsers_sees_every_message_in_both(open_browser):
    first, second = open_browser().join("alice"), open_browser().join("alice")
    bob = open_browser().join("bob")
    bob.say("hello alice")
    for window in (first, second, bob):
        sync_api.expect(window.messages).to_have_text(["bob: hello alice"])
        sync_api.expect(window.present).to_have_text("alice, bob")


def test_a_user_who_closes_one_of_two_browsers_stays_present(open_browser, channel_stub):
    bob = open_browser().join("bob")
    first, second = open_browser().join("alice"), open_browser().join("alice")
    first.page.close()
    channel_stub.wait_for("close", "alice/2")
    bob.say("still here?")
    second.say("yes")
    sync_api.expect(bob.messages).to_have_text(["bob: still here?", "alice: yes"])
    sync_api.expect(bob.present).to_have_text("alice, bob")
    second.page.close()
    sync_api.expect(bob.present).to_have_text("bob")


def test_after_an_hour_both_browsers_join_again_by_themselves(
    open_browser, channel_clock, channel_stub
):
    first, second = open_browser().join("alice"), open_browser().join("alice")
    first.say("before")
    sync_api.expect(second.messages).to_have_text(["alice: before"])
    channel_clock.advance(hours=1, seconds=3)
    channel_stub.wait_for("connect", count=4)
    second.say("after")
    for window in (first, second):
        sync_api.expect(window.messages.last).to_have_text("alice: after")
        sync_api.expect(window.messages.filter(has_text="alice: before")).to_have_count(1)


def test_names_and_texts_are_shown_and_not_run(open_browser):
    alice, bob = open_browser().join("alice"), open_browser().join("<b>bob</b>")
    bob.say("</script><script>alert(1)</script>")
    sync_api.expect(alice.messages).to_have_text(["<b>bob</b>: </script><script>alert(1)</script>"])
    sync_api.expect(alice.present).to_have_text("<b>bob</b>, alice")
