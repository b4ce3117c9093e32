"""The endpoints, tested with a mock in place of the service, in the old style: unittest alone."""

import unittest
from urllib.parse import urlencode

from google.appengine.api.channel import channel_service_stub

from pytest_channelstub.web import ChannelMiddleware


class MockStub:
    """Has what the endpoints call, and knows two tokens by their names."""

    def __init__(self):
        self.connected = []
        self.messages = []

    def validate_token_and_extract_client_id(self, token):
        if token == "bad":
            raise channel_service_stub.InvalidTokenError
        if token == "expired":
            raise channel_service_stub.TokenTimedOutError
        return "alice"

    def connect_channel(self, token):
        self.validate_token_and_extract_client_id(token)
        self.connected.append(token)

    def connect_and_pop_first_message(self, token):
        self.connect_channel(token)
        return self.messages.pop(0) if self.messages else None


class EndpointsTest(unittest.TestCase):
    def setUp(self):
        self.stub = MockStub()
        self.endpoints = ChannelMiddleware(self.stub)

    def get(self, path, **query):
        environ = {"REQUEST_METHOD": "GET", "PATH_INFO": path, "QUERY_STRING": urlencode(query)}
        body = b"".join(self.endpoints(environ, self.start_response))
        return self.status, self.headers.get("Content-Type"), body

    def start_response(self, status, headers, exc_info=None):
        self.status, self.headers = status, dict(headers)

    def dev(self, **query):
        return self.get("/_ah/channel/dev", **query)

    def test_connect(self):
        self.assertEqual(
            self.dev(command="connect", channel="token"), ("200 OK", "text/plain", b"1")
        )
        self.assertEqual(self.stub.connected, ["token"])

    def test_poll_with_a_message(self):
        self.stub.messages = ["grüß Gott", "later"]

        self.assertEqual(
            self.dev(command="poll", channel="token"),
            ("200 OK", "application/json", "grüß Gott".encode()),
        )
        self.assertEqual(self.stub.messages, ["later"])
        self.assertEqual(self.stub.connected, ["token"])

    def test_poll_without_a_message(self):
        self.assertEqual(self.dev(command="poll", channel="token"), ("200 OK", None, b""))

    def test_a_token_that_is_invalid(self):
        for command in ("connect", "poll"):
            self.assertEqual(
                self.dev(command=command, channel="bad"), ("401 Invalid+token.", None, b"")
            )

    def test_a_token_that_has_timed_out(self):
        for command in ("connect", "poll"):
            self.assertEqual(
                self.dev(command=command, channel="expired"), ("401 Token+timed+out.", None, b"")
            )

    def test_a_request_that_is_incomplete(self):
        for query in ({}, {"command": "connect"}, {"channel": "token"}):
            self.assertEqual(self.dev(**query), ("400 Bad Request", None, b""))

    def test_a_command_that_is_unknown(self):
        self.assertEqual(self.dev(command="no", channel="token"), ("400 Bad Request", None, b""))

    def test_the_script(self):
        status, content_type, body = self.get("/_ah/channel/jsapi")

        self.assertEqual((status, content_type), ("200 OK", "text/javascript"))
        self.assertIn(b"goog", body)


if __name__ == "__main__":
    unittest.main()
