"""Sends to many clients at once, by the calls of the stub that it is given."""

from google.appengine.api import api_base_pb
from google.appengine.api.channel import channel_service_pb


def send_message_async(stub, client_id, message):
    request = channel_service_pb.SendMessageRequest()
    request.set_application_key(client_id)
    request.set_message(message.encode("utf-8"))
    rpc = stub.CreateRPC()
    rpc.MakeCall("channel", "SendChannelMessage", request, api_base_pb.VoidProto())
    return rpc


def broadcast(stub, client_ids, message):
    rpcs = [send_message_async(stub, client_id, message) for client_id in client_ids]
    for rpc in rpcs:
        rpc.Wait()
        rpc.CheckSuccess()
