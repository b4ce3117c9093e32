from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import subprocess
import threading
import time
import warnings
from concurrent.futures import Future
from pathlib import Path

import pytest

from pytest_channelstub import ChannelServiceStub, FakeClock
from pytest_channelstub.web import ChannelMiddleware

# Of a page that never becomes what it should.
LONGEST_WAIT = 10  # seconds


@pytest.fixture
def stub():
    with ChannelServiceStub(time_func=FakeClock().time) as stub:
        yield stub


@pytest.fixture
def middleware(stub):
    middleware = ChannelMiddleware(stub)
    yield middleware
    middleware.stop()


@pytest.fixture
def in_background():
    """Call a function in a thread; gives a future of what it returns."""
    with contextlib.ExitStack() as ends:

        def call(function, *args, **kwargs):
            future = Future()

            def run():
                try:
                    future.set_result(function(*args, **kwargs))
                except BaseException as error:  # noqa: BLE001 (the future raises it)
                    future.set_exception(error)

            thread = threading.Thread(target=run, daemon=True)
            ends.callback(thread.join, 10)
            thread.start()
            return future

        yield call


class ChromiumWindow:
    """A window of Chromium, driven by Playwright."""

    def __init__(self, page):
        self.page = page
        self.reload = page.reload
        self.close = page.close

    def goto(self, url):
        self.page.goto(url)

    def call(self, function, *args):
        return self.page.evaluate(f"([args]) => ({function})(...args)", [args])


@contextlib.contextmanager
def chromium(request):
    """Gives a function that opens a window."""
    browser = request.getfixturevalue("browser")
    with contextlib.closing(browser.new_context()) as context:
        yield lambda: ChromiumWindow(context.new_page())


class FirefoxWindow:
    """A tab of Firefox, driven by WebDriver BiDi, which Firefox itself speaks."""

    def __init__(self, command):
        self.command = command
        self.context = command("browsingContext.create", type="tab")["context"]

    def goto(self, url):
        self.command("browsingContext.navigate", context=self.context, url=url, wait="complete")

    def reload(self):
        self.command("browsingContext.reload", context=self.context, wait="complete")

    def close(self):
        self.command("browsingContext.close", context=self.context)

    def call(self, function, *args):
        called = f"({function})(...{json.dumps(args)})"
        answer = self.command(
            "script.evaluate",
            expression=f"(async () => JSON.stringify([await {called}]))()",
            target={"context": self.context},
            awaitPromise=True,
        )
        assert answer["type"] == "success", answer["exceptionDetails"]["text"]
        return json.loads(answer["result"]["value"])[0]


@contextlib.contextmanager
def firefox(request):
    """Gives a function that opens a window."""
    program = shutil.which("firefox-esr") or shutil.which("firefox")
    if program is None:
        missing("no Firefox: apt-get install firefox-esr")
    try:
        import websocket  # noqa: PLC0415 (for this browser alone)
    except ImportError:
        missing("no websocket-client: pip install selenium")
    profile = request.getfixturevalue("tmp_path_factory").mktemp("firefox")
    arguments = ["--headless", "--no-remote", "--remote-debugging-port=0", "--profile", profile]
    with started(program, *arguments, stderr=subprocess.PIPE) as process:
        lines = iter(process.stderr.readline, "")
        url = next(found[0] for line in lines if (found := re.search(r"ws://\S+", line)))
        threading.Thread(target=process.stderr.read, daemon=True).start()
        session = f"{url}/session"
        connection = websocket.create_connection(session, suppress_origin=True, timeout=30)
        with contextlib.closing(connection):

            def command(method, **params):
                connection.send(json.dumps({"id": 1, "method": method, "params": params}))
                while "id" not in (answer := json.loads(connection.recv())):
                    pass  # an event
                assert answer["type"] == "success", answer
                return answer["result"]

            command("session.new", capabilities={})
            yield lambda: FirefoxWindow(command)


class WebKitWindow:
    """A tab of WebKitGTK's small browser, driven by Selenium."""

    def __init__(self, driver):
        self.driver = driver
        driver.switch_to.window(driver.window_handles[0])  # the last one used may be closed
        driver.switch_to.new_window("tab")
        self.handle = driver.current_window_handle

    def goto(self, url):
        self._switch().get(url)

    def reload(self):
        self._switch().refresh()

    def close(self):
        self._switch().close()

    def call(self, function, *args):
        script = f"return ({function})(...arguments)"
        return self._switch().execute_script(script, *args)

    def _switch(self):
        self.driver.switch_to.window(self.handle)
        return self.driver


@contextlib.contextmanager
def webkit(request):
    """Gives a function that opens a window."""
    program, screen = shutil.which("WebKitWebDriver"), shutil.which("Xvfb")
    if program is None or screen is None:
        missing("no WebKitGTK: apt-get install webkit2gtk-driver xvfb")
    try:
        from selenium import webdriver  # noqa: PLC0415 (for this browser alone)
    except ImportError:
        missing("no Selenium: pip install selenium")
    browsers = sorted(Path("/usr/lib").glob("*/webkit2gtk-4.*/MiniBrowser"))
    if not browsers:
        missing("no MiniBrowser of WebKitGTK in /usr/lib")
    with started(screen, "-displayfd", "1", stdout=subprocess.PIPE) as process:
        display = f":{process.stdout.readline().strip()}"
        service = webdriver.webkitgtk.service.Service(
            program, env={**os.environ, "DISPLAY": display}
        )
        options = webdriver.WebKitGTKOptions()
        options.binary_location = str(browsers[-1])
        options.add_argument("--automation")
        with warnings.catch_warnings():
            # Selenium's driver of WebKitGTK uses what Selenium itself gives up.
            warnings.simplefilter("ignore", DeprecationWarning)
            driver = webdriver.WebKitGTK(options=options, service=service)
        try:
            yield lambda: WebKitWindow(driver)
        finally:
            driver.quit()


@contextlib.contextmanager
def started(program, *arguments, **streams):
    streams = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, **streams}
    command = [program, *arguments]
    with subprocess.Popen(command, text=True, **streams) as process:  # noqa: S603 (a browser)
        try:
            yield process
        finally:
            process.terminate()


BROWSERS = {"chromium": chromium, "firefox": firefox, "webkit": webkit}
NAMED = re.split(r"[\s,]+", os.environ.get("CHANNELSTUB_BROWSERS", "chromium").strip())


def missing(reason):
    """Skip the tests of a browser that is not here; in CI they fail."""
    (pytest.fail if os.environ.get("CI") else pytest.skip)(reason)


@pytest.fixture(scope="module", params=NAMED)
def open_window(request):
    """A function that opens a window of a real browser.

    CHANNELSTUB_BROWSERS names the browsers: `chromium` by default, `firefox`, `webkit`.
    """
    with BROWSERS[request.param](request) as open_window:
        yield open_window


class Tab:
    """A window with the page of `test_browser.py`."""

    def __init__(self, window, url):
        self.window = window
        window.goto(url)

    def listen(self, token, handler="handlers"):
        self.window.call(f"token => {{ listen(token, {handler}) }}", token)
        return self

    def run(self, expression):
        return self.window.call(f"() => [{expression}]")[0]

    def do(self, statements, *args):
        self.window.call(f"(...args) => {{ {statements} }}", *args)

    def until(self, condition):
        until = time.perf_counter() + LONGEST_WAIT
        while not self.run(condition):
            assert time.perf_counter() < until, f"{condition} never held; the log is {self.log}"
            time.sleep(0.005)

    def until_logged(self, count):
        self.until(f"log.length >= {count}")
        return self.log

    @property
    def log(self):
        return self.run("log")

    @property
    def messages(self):
        return [entry[1] for entry in self.log if entry and entry[0] == "message"]


@pytest.fixture(scope="module")
def spare(open_window):
    """Windows that are left for the next test: to open one takes longer than most tests."""
    return []


@pytest.fixture
def new_tab(open_window, spare, channel_server):
    """A function that opens another tab of the same browser, at the page of a server."""
    windows = []

    def new_tab(server=channel_server, path="/", url=None):
        windows.append(spare.pop() if spare else open_window())
        return Tab(windows[-1], url or server.url_for(path))

    yield new_tab
    for window in windows:
        with contextlib.suppress(Exception):  # the test has closed it
            window.goto("about:blank")
            spare.append(window)


@pytest.fixture
def tab(new_tab):
    return new_tab()
