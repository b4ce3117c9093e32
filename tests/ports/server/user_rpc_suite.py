"""The sender's tests in the old style: unittest and testbed, no pytest in sight."""

import unittest

from google.appengine.api import channel
from google.appengine.ext import testbed
from google.appengine.runtime import apiproxy_errors
from user_rpc_sender import broadcast, send_message_async


class SenderTest(unittest.TestCase):
    def setUp(self):
        self.testbed = testbed.Testbed()
        self.testbed.activate()
        self.testbed.init_channel_stub()
        self.stub = self.testbed.get_stub("channel")
        self.tokens = {}
        for client_id in ("alice", "bob", "jürgen"):
            self.tokens[client_id] = channel.create_channel(client_id)
            self.stub.connect_channel(self.tokens[client_id])

    def tearDown(self):
        self.testbed.deactivate()

    def messages(self, client_id):
        return self.stub.get_channel_messages(self.tokens[client_id])

    def test_a_broadcast_reaches_everybody(self):
        broadcast(self.tokens, '{"text": "grüß Gott"}')

        for client_id in self.tokens:
            self.assertEqual(self.messages(client_id), ['{"text": "grüß Gott"}'])

    def test_a_call_runs_when_it_is_made(self):
        rpc = send_message_async("alice", "hello")

        self.assertEqual(self.messages("alice"), ["hello"])
        rpc.check_success()

    def test_a_client_id_may_be_bytes_too(self):
        broadcast([client_id.encode("utf-8") for client_id in self.tokens], b"hello")

        for client_id in self.tokens:
            self.assertEqual(self.messages(client_id), ["hello"])

    def test_an_error_shows_when_the_answer_is_looked_at(self):
        self.stub.SetError(apiproxy_errors.OverQuotaError(), "SendChannelMessage")
        rpc = send_message_async("alice", "hello")

        self.assertEqual(self.messages("alice"), [])
        with self.assertRaises(apiproxy_errors.OverQuotaError):
            rpc.check_success()


if __name__ == "__main__":
    unittest.main()
