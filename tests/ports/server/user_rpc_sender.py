"""Sends to many clients at once: every call is made before any answer is waited for."""

from google.appengine.api import api_base_pb, apiproxy_stub_map
from google.appengine.api.channel import channel_service_pb


def send_message_async(client_id, message):
    if isinstance(message, str):
        message = message.encode("utf-8")
    request = channel_service_pb.SendMessageRequest()
    request.set_application_key(client_id)
    request.set_message(message)
    rpc = apiproxy_stub_map.UserRPC("channel", deadline=5)
    rpc.make_call("SendChannelMessage", request, api_base_pb.VoidProto())
    return rpc


def broadcast(client_ids, message):
    rpcs = [send_message_async(client_id, message) for client_id in client_ids]
    for rpc in rpcs:
        rpc.wait()
        rpc.check_success()
