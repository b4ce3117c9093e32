"""What the chat's tests share: the app under test, and users with a page open."""

from __future__ import annotations

import io
import json
from urllib.parse import urlencode
from wsgiref.util import setup_testing_defaults

import pytest
from chat import Chat

from pytest_channelstub import ChannelClient


@pytest.fixture
def channel_app():
    """The plugin sends the connected and disconnected requests to this app."""
    return Chat()


class Site:
    """The app as a browser sees it."""

    def __init__(self, app):
        self.app = app
        self.status = 0

    def get(self, path):
        return self._request("GET", path, "")

    def post(self, path, **form):
        return self._request("POST", path, urlencode(form))

    def _request(self, method, path, body):
        environ = {
            "REQUEST_METHOD": method,
            "PATH_INFO": path,
            "REMOTE_ADDR": "198.51.100.7",
            "CONTENT_LENGTH": str(len(body)),
            "wsgi.input": io.BytesIO(body.encode()),
        }
        setup_testing_defaults(environ)
        answer = b"".join(self.app(environ, self._start_response)).decode()
        return json.loads(answer) if self.content_type == "application/json" else answer

    def _start_response(self, status, headers):
        self.status = int(status.split()[0])
        self.content_type = dict(headers)["Content-Type"]


class Tab:
    """A page of the chat in somebody's browser: joined, its channel not yet open."""

    def __init__(self, stub, site, name):
        self.stub = stub
        self.site = site
        self.token = site.post("/join", name=name)["token"]

    def open(self, **options):
        self.client = ChannelClient(self.stub, self.token, **options)
        return self

    def close(self):
        self.client.close()

    def say(self, text):
        return self.site.post("/say", token=self.token, text=text)

    def read(self):
        """Everything that has come since the last look, as JSON."""
        return [json.loads(message) for message in self.client.receive_all()]


@pytest.fixture
def site(channel_app):
    return Site(channel_app)


@pytest.fixture
def join(channel_stub, site):
    """A function: `join("alice")` gives a page that has joined but opened no channel yet."""
    return lambda name: Tab(channel_stub, site, name)


@pytest.fixture
def enter(join):
    """A function: `enter("alice")` gives a page with its channel open, its greeting read.

    `keep_alive=True` makes it poll as an open page does, instead of once at the start.
    """

    def enter(name, **options):
        tab = join(name).open(**options)
        tab.read()
        return tab

    return enter
