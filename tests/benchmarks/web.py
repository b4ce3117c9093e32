"""What the web part costs: run as a script, from the repository's root.

    pip install '.[test]' && python tests/benchmarks/web.py [latency] [polls] [starts]

`latency`: from send_message to onmessage in Chromium, over 200 messages; and a burst of 200.
`polls`: 200 clients that hold polls on a live server, 10 messages each.
`starts`: 500 starts and stops of the server in one process.
"""

from __future__ import annotations

import contextlib
import gc
import http.client
import os
import resource
import shutil
import statistics
import sys
import threading
import time
from pathlib import Path

from pytest_channelstub import ChannelServiceStub, FakeClock, channel
from pytest_channelstub.web import ChannelServer

PAGE = b"""<!DOCTYPE html><script src="/_ah/channel/jsapi"></script><script>
  const times = [];
  function listen(token) {
    new goog.appengine.Channel(token).open({
      onmessage() { times.push(performance.timeOrigin + performance.now()); },
    });
  }
</script>"""


def app(_environ, start_response):
    start_response("200 OK", [("Content-Type", "text/html")])
    return [PAGE]


@contextlib.contextmanager
def live():
    with ChannelServiceStub(time_func=FakeClock().time) as stub, ChannelServer(stub, app) as server:
        yield stub, server


def write(text):
    sys.stdout.write(text + "\n")


def latency():
    from playwright.sync_api import sync_playwright  # noqa: PLC0415 (for this one only)

    path = os.environ.get("CHROMIUM") or shutil.which("chromium")
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking"]
    with sync_playwright() as playwright, live() as (stub, server):
        chromium = playwright.chromium.launch(executable_path=path, args=flags)
        page = chromium.new_page()
        page.goto(server.url)
        page.evaluate("token => listen(token)", channel.create_channel("alice"))
        stub.wait_for("poll", "alice")
        sent = []
        for number in range(200):
            polls = len(stub.timeline.of("alice", kind="poll"))
            sent.append(time.time() * 1000)
            channel.send_message("alice", f"message {number}")
            stub.wait_for("poll", "alice", count=polls + 1)
        took = sorted(
            there - here for here, there in zip(sent, page.evaluate("times"), strict=True)
        )
        began = time.perf_counter()
        for number in range(200):
            channel.send_message("alice", f"message {number}")
        page.wait_for_function("times.length === 400")
        burst = time.perf_counter() - began
        chromium.close()
    write(f"send to onmessage: median {statistics.median(took):.1f} ms, 95 % {took[189]:.1f} ms")
    write(f"200 messages at once: {burst:.2f} s")


def get(server, path):
    connection = http.client.HTTPConnection(server.host, server.port, timeout=60)
    with contextlib.closing(connection):
        connection.request("GET", path)
        return connection.getresponse().read().decode()


def polls(clients=200, messages=10):
    with live() as (stub, server):
        received = [[] for _ in range(clients)]

        def listen(number, token):
            query = f"channel={token}&page=p&next_poll_within=5"
            get(server, f"/_ah/channel/dev?command=connect&{query}")
            while len(received[number]) < messages:
                if text := get(server, f"/_ah/channel/dev?command=poll&{query}&wait=30"):
                    received[number].append(text)

        threads = [
            threading.Thread(target=listen, args=(n, channel.create_channel(f"client-{n}")))
            for n in range(clients)
        ]
        for thread in threads:
            thread.start()
        stub.wait_for("poll", count=clients, timeout=60)
        threading.Event().wait(1)
        before = time.process_time()
        threading.Event().wait(5)
        idle = time.process_time() - before
        began = time.perf_counter()
        for message in range(messages):
            for number in range(clients):
                channel.send_message(f"client-{number}", str(message))
        for thread in threads:
            thread.join()
        took = time.perf_counter() - began
        right = sum(texts == [str(n) for n in range(messages)] for texts in received)
        began = time.perf_counter()
    stop = time.perf_counter() - began
    write(f"{right} of {clients} clients got their {messages} messages in order, in {took:.2f} s")
    write(f"processor time while all waited: {idle * 1000:.0f} ms in 5 s; stopped in {stop:.3f} s")


def state():
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    descriptors = len(list(Path("/proc/self/fd").iterdir()))
    return threading.active_count(), descriptors, pages * resource.getpagesize() // 1024


def starts(number=500):
    stub = ChannelServiceStub(time_func=FakeClock().time)
    token = channel.create_channel("alice")
    times = []
    for count in range(number + 20):
        if count == 20:  # what is loaded once is loaded
            before = state()
        began = time.perf_counter()
        with ChannelServer(stub, app) as server:
            get(server, f"/_ah/channel/dev?command=connect&channel={token}")
        times.append(time.perf_counter() - began)
        stub.reset("all")
    after = state()
    stub.close()
    names = ("threads", "descriptors", "resident kB")
    changes = ", ".join(f"{n} {b} -> {a}" for n, b, a in zip(names, before, after, strict=True))
    write(f"{number} starts and stops: {changes}; {statistics.median(times) * 1000:.1f} ms each")


if __name__ == "__main__":
    for name in sys.argv[1:] or ("latency", "polls", "starts"):
        {"latency": latency, "polls": polls, "starts": starts}[name]()
