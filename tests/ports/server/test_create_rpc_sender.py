import pytest
from create_rpc_sender import broadcast, send_message_async

from pytest_channelstub import apiproxy_errors


@pytest.fixture
def clients(channel_client):
    return [channel_client(client_id) for client_id in ("alice", "bob", "jürgen")]


def test_a_broadcast_reaches_everybody(channel_stub, clients):
    broadcast(channel_stub, [client.client_id for client in clients], "grüß Gott")
    assert [client.receive_all() for client in clients] == [["grüß Gott"]] * 3


def test_a_call_runs_when_it_is_made(channel_stub, clients):
    rpc = send_message_async(channel_stub, "alice", "hello")
    assert clients[0].receive() == "hello"
    rpc.CheckSuccess()


def test_a_client_id_and_a_token_may_be_bytes_too(channel_stub, clients):
    broadcast(channel_stub, [client.client_id.encode("utf-8") for client in clients], "one")
    broadcast(channel_stub, [client.token.encode("utf-8") for client in clients], "two")
    assert [client.receive_all() for client in clients] == [["one", "two"]] * 3


def test_an_error_shows_when_the_answer_is_looked_at(channel_stub, clients):
    channel_stub.SetError(apiproxy_errors.OverQuotaError(), "SendChannelMessage")
    rpc = send_message_async(channel_stub, "alice", "hello")
    assert clients[0].receive_all() == []
    with pytest.raises(apiproxy_errors.OverQuotaError):
        rpc.CheckSuccess()
