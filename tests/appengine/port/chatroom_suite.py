"""The chat room's tests in the old style: unittest, testbed and webtest, no pytest in sight."""

import json
import unittest

import chatroom
import webtest
from google.appengine.api import apiproxy_stub_map, channel, memcache
from google.appengine.api.channel import channel_service_pb, channel_service_stub
from google.appengine.ext import testbed
from google.appengine.runtime import apiproxy_errors


class ChatroomTest(unittest.TestCase):
    def setUp(self):
        self.testbed = testbed.Testbed()
        self.testbed.activate()
        self.testbed.init_channel_stub()
        self.testbed.init_memcache_stub()
        self.stub = self.testbed.get_stub(testbed.CHANNEL_SERVICE_NAME)
        self.app = webtest.TestApp(chatroom.application)

    def tearDown(self):
        self.testbed.deactivate()

    def join(self, name):
        token = self.app.post("/join", {"name": name}).json["token"]
        self.stub.connect_channel(token)
        self.app.post("/_ah/channel/connected/", {"from": name})
        return token

    def test_a_token_names_its_client(self):
        token = self.join("alice")

        self.assertEqual(self.stub.validate_token_and_extract_client_id(token), "alice")
        self.assertIsNone(self.stub.client_id_from_token("nonsense"))
        with self.assertRaises(channel_service_stub.InvalidTokenError):
            self.stub.connect_channel("nonsense")

    def test_everybody_hears_what_is_said(self):
        tokens = [self.join(name) for name in ("alice", "bob")]
        self.app.post("/say", {"name": "alice", "text": "hello"})

        for token in tokens:
            welcome, hello = map(json.loads, self.stub.get_channel_messages(token))
            self.assertEqual(welcome["text"], "welcome")
            self.assertEqual(hello, {"from": "alice", "text": "hello"})

    def test_messages_are_popped_in_order(self):
        token = self.join("alice")
        channel.send_message("alice", "second")

        self.assertEqual(json.loads(self.stub.pop_first_message(token))["text"], "welcome")
        self.assertEqual(self.stub.pop_first_message(token), "second")
        self.assertFalse(self.stub.has_channel_messages(token))

    def test_a_user_who_left_gets_nothing(self):
        token = self.join("alice")
        self.app.post("/_ah/channel/disconnected/", {"from": "alice"})
        self.stub.disconnect_channel_event("alice")
        self.app.post("/say", {"name": "bob", "text": "anybody there?"})

        self.assertIsNone(self.stub.get_channel_messages(token))
        self.assertEqual(memcache.get(chatroom.MEMBERS), [])

    def test_a_message_too_long_is_refused(self):
        self.join("alice")

        self.app.post("/say", {"name": "alice", "text": "x" * 40000}, status=400)

    def test_a_used_up_quota_is_reported(self):
        self.join("alice")
        self.stub.SetError(apiproxy_errors.OverQuotaError("enough"), "SendChannelMessage")

        self.app.post("/say", {"name": "alice", "text": "hello"}, status=503)

    def test_the_raw_call_goes_through_the_map(self):
        request = channel_service_pb.CreateChannelRequest()
        request.set_application_key("carol")
        response = channel_service_pb.CreateChannelResponse()
        apiproxy_stub_map.MakeSyncCall("channel", "CreateChannel", request, response)

        self.assertEqual(self.stub.client_id_from_token(response.token()), "carol")

    def test_no_service_no_message(self):
        self.testbed.init_channel_stub(enable=False)

        with self.assertRaises(AssertionError):
            channel.send_message("alice", "hello")


if __name__ == "__main__":
    unittest.main()
