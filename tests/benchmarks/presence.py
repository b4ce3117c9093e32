"""Whether an app knows who is there, whatever its handlers take: a script, for real pages.

    pip install '.[test]' && python tests/benchmarks/presence.py [count]

In Chromium, `count` pages (by default 40) open, reload and close for each of four times
that the handlers of presence take. After each step the app has to know what is true.
"""

from __future__ import annotations

import os
import shutil
import sys
import time
from urllib.parse import parse_qs

from playwright.sync_api import sync_playwright

from pytest_channelstub import ChannelServiceStub, FakeClock, channel
from pytest_channelstub.web import ChannelServer

PAGE = """<!DOCTYPE html><script src="/_ah/channel/jsapi"></script>
<script>new goog.appengine.Channel("%s").open()</script>"""
FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking"]


class App:
    """Keeps who is there, as the README writes it, and takes its time."""

    def __init__(self, seconds):
        self.here = []
        self.seconds = seconds

    def __call__(self, environ, start_response):
        start_response("200 OK", [("Content-Type", "text/html")])
        if environ["REQUEST_METHOD"] == "GET":
            [user] = parse_qs(environ["QUERY_STRING"]).get("user", [""])
            return [(PAGE % channel.create_channel(user)).encode()] if user else []
        form = parse_qs(environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"])).decode())
        time.sleep(self.seconds)
        if environ["PATH_INFO"] == "/_ah/channel/connected/":
            self.here.append(form["from"][0])
        elif environ["PATH_INFO"] == "/_ah/channel/disconnected/":
            self.here.remove(form["from"][0])
        return []


class Trial:
    """One page's life."""

    def __init__(self, browser, stub, server, app, user):
        self.stub = stub
        self.app = app
        self.user = user
        self.failures = []
        self.page = browser.new_page()
        self.page.goto(server.url_for("/", user=user))
        stub.wait_for("connect", user)
        self.check("open", [user])

    def check(self, step, here):
        if self.app.here != here:
            self.failures.append(f"{step} of {self.user}: {self.app.here}, not {here}")
            self.app.here[:] = here

    def reload(self):
        before = [*self.stub._pages]
        self.page.reload()
        # The new page has connected, and the old one's goodbye has come.
        self.until(lambda: len(self.stub._pages) == 1 and [*self.stub._pages] != before)
        self.settle("reload", [self.user])

    def close(self):
        self.page.close()
        self.until(lambda: not self.stub.is_connected(self.user))
        self.settle("close", [])

    def settle(self, step, here):
        self.stub._wait_until_idle(10)
        self.check(step, here)

    def until(self, condition):
        until = time.perf_counter() + 10
        while not condition():
            if time.perf_counter() > until:
                self.failures.append(f"{self.user} has not come or gone within 10 s")
                return
            time.sleep(0.001)


def run(browser, milliseconds, count):
    app, failures = App(milliseconds / 1000), []
    with ChannelServiceStub(time_func=FakeClock().time) as stub:
        stub.app = app
        with ChannelServer(stub, app) as server:
            for number in range(count):
                trial = Trial(browser, stub, server, app, f"user-{number}")
                trial.reload()
                trial.close()
                failures += trial.failures
            failures += [repr(error) for error in server.take_errors()]
    sys.stdout.write(
        f"handlers of {milliseconds} ms: {count} reloads and {count} closings, "
        f"{len(failures)} failures\n"
    )
    for failure in failures[:5]:
        sys.stdout.write(f"  {failure}\n")
    return len(failures)


def main(count=40):
    path = os.environ.get("CHROMIUM") or shutil.which("chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=FLAGS)
        failed = sum(run(browser, milliseconds, count) for milliseconds in (0, 2, 20, 100))
        browser.close()
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(*map(int, sys.argv[1:])))
