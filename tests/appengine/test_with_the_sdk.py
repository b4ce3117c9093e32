"""With the real `appengine-python-standard`."""

import json
import logging
import threading

import pytest

REASON = "appengine-python-standard is not installed: pip install 'pytest-channelstub[appengine]'"
testbed = pytest.importorskip("google.appengine.ext.testbed", reason=REASON)
default_api_stub = pytest.importorskip("google.appengine.runtime.default_api_stub", reason=REASON)

from google.appengine.api import (  # noqa: E402 (skipped without it)
    apiproxy_rpc,
    apiproxy_stub,
    apiproxy_stub_map,
    channel,
    memcache,
    request_info,
)
from google.appengine.api.channel import channel_service_pb, channel_service_stub  # noqa: E402
from google.appengine.runtime import apiproxy_errors  # noqa: E402

import pytest_channelstub  # noqa: E402
from pytest_channelstub import ChannelServiceStub  # noqa: E402


@pytest.fixture
def bed():
    bed = testbed.Testbed()
    bed.activate()
    yield bed
    bed.deactivate()


@pytest.fixture
def fresh_map(monkeypatch):
    """A map of the suite's own, as old suites make one in setUp."""
    stub_map = apiproxy_stub_map.APIProxyStubMap()
    monkeypatch.setattr(apiproxy_stub_map, "apiproxy", stub_map)
    return stub_map


class Foreign(apiproxy_stub.APIProxyStub):
    """A stub as a suite would write one on the SDK's base."""

    def __init__(self):
        super().__init__("channel")
        self.sent = []

    def _Dynamic_CreateChannel(self, request, response):
        response.set_token(f"token of {request.application_key()}")

    def _Dynamic_SendChannelMessage(self, request, response):
        self.sent.append((request.application_key(), request.message()))


def create_request(client_id):
    request = channel_service_pb.CreateChannelRequest()
    request.set_application_key(client_id)
    return request


def register_what_wrap_wsgi_app_registers():
    # The function itself goes on to replace os.environ, for good.
    default_api_stub.Register(default_api_stub.DefaultApiStub())


# testbed


def test_testbed_registers_the_stub_of_the_fixture(channel_stub, bed):
    bed.init_channel_stub()

    assert bed.get_stub("channel") is channel_stub
    assert bed.get_stub(testbed.CHANNEL_SERVICE_NAME) is channel_stub


def test_the_fixtures_stub_outlives_the_testbed(channel_stub):
    bed = testbed.Testbed()
    bed.activate()
    bed.init_channel_stub()
    bed.deactivate()

    channel.create_channel("alice")

    assert len(channel_stub.timeline.of("alice")) == 1


def test_without_a_fixture_testbed_has_a_stub_on_the_system_clock(bed, monkeypatch):
    bed.init_channel_stub(enable=True)
    stub = bed.get_stub("channel")
    token = channel.create_channel("alice", duration_minutes=1)
    stub.connect_channel(token)

    monkeypatch.setattr("time.time", lambda: 4_000_000_000.0)

    assert not stub.is_connected("alice")
    with pytest.raises(channel_service_stub.TokenTimedOutError):
        stub.connect_channel(token)


def test_all_stubs_include_the_channel_stub(bed):
    bed.init_all_stubs()

    assert isinstance(bed.get_stub("channel"), channel_service_stub.ChannelServiceStub)


def test_deactivate_takes_the_stub_away(bed):
    bed.init_channel_stub()
    bed.deactivate()

    with pytest.raises(AssertionError, match="channel_stub"):
        channel.create_channel("alice")
    bed.activate()


def test_a_disabled_stub_refuses_calls_in_the_sdks_words(channel_stub, bed):
    bed.init_channel_stub()
    bed.init_channel_stub(enable=False)

    assert bed.get_stub("channel") is None
    with pytest.raises(AssertionError, match='No api proxy found for service "channel"'):
        channel.send_message("alice", "hello")
    assert not channel_stub.timeline


def test_a_testbed_that_is_not_active_says_so():
    with pytest.raises(testbed.NotActivatedError):
        testbed.Testbed().init_channel_stub()


def test_testbed_takes_a_stub_of_ours_by_hand(bed):
    with ChannelServiceStub() as stub:
        bed._register_stub("channel", stub)

        assert apiproxy_stub_map.apiproxy.GetStub("channel") is stub


def test_a_testbed_inside_a_testbed_gives_way_again(bed):
    bed.init_channel_stub()
    outer = bed.get_stub("channel")
    inner = testbed.Testbed()
    inner.activate()
    inner.init_channel_stub()
    channel.create_channel("alice")
    inner.deactivate()
    channel.create_channel("bob")

    assert [event.client_id for event in outer.timeline] == ["bob"]


# The map


def test_a_call_reaches_the_fixtures_stub_through_a_map_made_later(channel_stub, fresh_map):
    seen = []
    fresh_map.GetPreCallHooks().Append("seen", lambda *call: seen.append(call[:2]))

    channel.create_channel("alice")

    assert seen == [("channel", "CreateChannel")]
    assert channel_stub.timeline.of("alice", kind="create")
    assert fresh_map.GetStub("channel") is channel_stub


def test_hooks_run_before_and_after_a_call(channel_stub, fresh_map):
    seen = []

    def before(service, call, request, response):
        seen.append(("before", call, request.application_key()))

    def after(service, call, request, response, rpc, error):  # noqa: PLR0913, PLR0917 (a hook's)
        seen.append(("after", call, rpc.state, error and str(error)))

    fresh_map.GetPreCallHooks().Append("before", before, "channel")
    fresh_map.GetPostCallHooks().Append("after", after, "channel")
    channel.create_channel("alice")
    channel_stub.SetError(apiproxy_errors.OverQuotaError("enough"), "SendChannelMessage")
    with pytest.raises(apiproxy_errors.OverQuotaError):
        channel.send_message("alice", "hello")

    finished = apiproxy_rpc.RPC.FINISHING
    assert seen == [
        ("before", "CreateChannel", "alice"),
        ("after", "CreateChannel", finished, None),
        ("before", "SendChannelMessage", "alice"),
        ("after", "SendChannelMessage", finished, "enough"),
    ]


def test_a_hook_may_change_the_request(channel_stub, fresh_map):
    fresh_map.GetPreCallHooks().Append(
        "rename", lambda _service, _call, request, _response: request.set_application_key("bob")
    )

    token = channel.create_channel("alice")

    assert channel_stub.client_id_from_token(token) == "bob"


def test_a_foreign_stub_is_reached(fresh_map):
    stub = Foreign()
    fresh_map.RegisterStub("channel", stub)

    assert channel.create_channel("alice") == "token of alice"
    channel.send_message("alice", "hello")
    assert stub.sent == [("alice", "hello")]


def test_a_foreign_stub_is_reached_although_a_fixtures_is_alive(channel_stub, fresh_map):
    channel.create_channel("alice")
    fresh_map.RegisterStub("channel", Foreign())

    assert channel.create_channel("bob") == "token of bob"
    assert not channel_stub.timeline.of("bob")


def test_a_foreign_stub_sees_its_own_limits_kept(fresh_map):
    class Small(Foreign):
        def __init__(self):
            super().__init__()
            self._APIProxyStub__max_request_size = 20

    fresh_map.RegisterStub("channel", Small())
    channel.send_message("alice", "hello")

    with pytest.raises(apiproxy_errors.RequestTooLargeError):
        channel.send_message("alice", "x" * 100)
    with pytest.raises(AssertionError):
        apiproxy_stub_map.MakeSyncCall(
            "channel",
            "CreateChannel",
            channel_service_pb.CreateChannelRequest(),
            channel_service_pb.CreateChannelResponse(),
        )


def test_a_foreign_stubs_application_error_becomes_the_modules_own(fresh_map):
    stub = Foreign()
    fresh_map.RegisterStub("channel", stub)
    code = channel_service_pb.ChannelServiceError.INVALID_CHANNEL_KEY
    stub.SetError(apiproxy_errors.ApplicationError(code, "no such key"))

    with pytest.raises(channel.InvalidChannelClientIdError, match="no such key"):
        channel.create_channel("alice")


def test_a_stub_registered_by_hand_is_reached(fresh_map):
    with ChannelServiceStub() as stub, ChannelServiceStub():
        fresh_map.RegisterStub("channel", stub)

        token = channel.create_channel("alice")

    assert [event.token for event in stub.timeline] == [token]


def test_the_service_asked_is_channel(channel_stub, fresh_map, monkeypatch):
    assert channel._GetService() == "channel"
    monkeypatch.setattr(channel, "_GetService", lambda: "another")

    with pytest.raises(AssertionError, match='No api proxy found for service "another"'):
        channel.create_channel("alice")


def test_an_app_wrapped_for_production_calls_the_fixtures_stub(channel_stub, fresh_map):
    register_what_wrap_wsgi_app_registers()
    assert fresh_map.GetStub("memcache") is not None

    token = channel.create_channel("alice")

    assert channel_stub.client_id_from_token(token) == "alice"


def test_an_app_wrapped_for_production_calls_nothing_without_a_fixture(fresh_map):
    register_what_wrap_wsgi_app_registers()

    with pytest.raises(AssertionError, match="channel_stub"):
        channel.create_channel("alice")


# UserRPC


def test_a_user_rpc_makes_the_call(channel_stub):
    called = []
    rpc = apiproxy_stub_map.UserRPC("channel", deadline=5, callback=lambda: called.append(True))
    response = channel_service_pb.CreateChannelResponse()
    rpc.make_call(
        "CreateChannel",
        create_request("alice"),
        response,
        get_result_hook=lambda rpc: rpc.check_success() or rpc.response.token(),
    )

    token = rpc.get_result()

    assert channel_stub.client_id_from_token(token) == "alice"
    assert called == [True]
    assert (rpc.service, rpc.method, rpc.deadline) == ("channel", "CreateChannel", 5)
    assert rpc.state == apiproxy_rpc.RPC.FINISHING


def test_a_user_rpc_raises_what_the_call_raised(channel_stub):
    channel_stub.SetError(apiproxy_errors.DeadlineExceededError("late"))
    rpc = apiproxy_stub_map.UserRPC("channel")
    rpc.make_call(
        "CreateChannel", create_request("alice"), channel_service_pb.CreateChannelResponse()
    )

    rpc.wait()
    with pytest.raises(apiproxy_errors.DeadlineExceededError, match="late"):
        rpc.check_success()


def test_several_user_rpcs_can_be_waited_for(channel_stub):
    rpcs = [apiproxy_stub_map.UserRPC("channel") for _ in range(3)]
    for rpc, name in zip(rpcs, ("alice", "bob", "carol"), strict=True):
        rpc.make_call(
            "CreateChannel", create_request(name), channel_service_pb.CreateChannelResponse()
        )

    assert apiproxy_stub_map.UserRPC.wait_any(rpcs) in rpcs
    apiproxy_stub_map.UserRPC.wait_all(rpcs)
    for rpc in rpcs:
        rpc.check_success()
    assert [event.client_id for event in channel_stub.timeline] == ["alice", "bob", "carol"]


def test_a_user_rpcs_request_is_checked(channel_stub):
    rpc = apiproxy_stub_map.UserRPC("channel")
    rpc.make_call(
        "CreateChannel",
        channel_service_pb.CreateChannelRequest(),
        channel_service_pb.CreateChannelResponse(),
    )

    with pytest.raises(AssertionError):
        rpc.check_success()


# Errors


@pytest.mark.parametrize("name", pytest_channelstub.apiproxy_errors.__all__)
def test_the_errors_are_the_sdks_own(name):
    assert getattr(pytest_channelstub.apiproxy_errors, name) is getattr(apiproxy_errors, name)


def test_an_unknown_call_raises_the_sdks_own_error(channel_stub):
    with pytest.raises(apiproxy_errors.CallNotFoundError):
        apiproxy_stub_map.MakeSyncCall("channel", "Shout", create_request("alice"), None)


def test_a_request_over_the_limit_raises_the_sdks_own_error(channel_stub):
    request = channel_service_pb.SendMessageRequest()
    request.set_application_key("alice")
    request.set_message("x" * (1 << 20))

    with pytest.raises(apiproxy_errors.RequestTooLargeError):
        apiproxy_stub_map.MakeSyncCall(
            "channel", "SendChannelMessage", request, channel_service_pb.VoidProto()
        )


@pytest.mark.channel_error(apiproxy_errors.OverQuotaError("enough"))
def test_the_marker_takes_the_sdks_errors(channel_stub):
    with pytest.raises(apiproxy_errors.OverQuotaError, match="enough"):
        channel.create_channel("alice")


# request_data


def test_with_the_sdks_default_request_data_nothing_is_lost(caplog):
    caplog.set_level(logging.WARNING)
    clock = pytest_channelstub.FakeClock()
    posts = []

    def app(environ, start_response):
        posts.append((clock.elapsed, environ["PATH_INFO"]))
        start_response("200 OK", [])
        return []

    data = request_info._LocalRequestInfo()
    with ChannelServiceStub(time_func=clock.time, request_data=data) as stub:
        stub.app = app
        stub.connect_channel(channel.create_channel("alice"))
        clock.advance(2)
        assert not stub.is_connected("alice")

    assert posts == [(0, "/_ah/channel/connected/"), (2, "/_ah/channel/disconnected/")]
    assert not caplog.records


def test_request_data_with_a_dispatcher_that_dispatches_is_used():
    class Dispatcher(request_info._LocalFakeDispatcher):
        requests = ()

        def add_async_request(self, *request, **where):
            self.requests += (request,)

        def add_event(self, *event, **more):
            pass

    class RequestInfo(request_info._LocalRequestInfo):
        dispatcher = Dispatcher()

        def get_dispatcher(self):
            return self.dispatcher

    with ChannelServiceStub(request_data=RequestInfo()) as stub:
        stub.connect_channel(channel.create_channel("alice"))

    assert [request[:2] for request in RequestInfo.dispatcher.requests] == [
        ("POST", "/_ah/channel/connected/")
    ]


# The app's handlers


def test_a_connected_handler_makes_sdk_calls(channel_stub, bed):
    bed.init_channel_stub()
    bed.init_memcache_stub()

    def app(environ, start_response):
        client_id = environ["wsgi.input"].read().decode().partition("=")[2]
        memcache.incr(environ["PATH_INFO"], initial_value=0)
        channel.send_message(client_id, json.dumps({"hello": client_id}))
        start_response("200 OK", [])
        return []

    channel_stub.app = app
    token = channel.create_channel("alice")
    channel_stub.connect_channel(token)

    assert channel_stub.pop_first_message(token) == '{"hello": "alice"}'
    assert memcache.get("/_ah/channel/connected/") == 1
    channel_stub.clock.advance(2)
    assert memcache.get("/_ah/channel/disconnected/") == 1
    assert [request.status for request in channel_stub.requests] == [200, 200]


def test_threads_send_through_the_map_at_once(channel_stub, bed):
    bed.init_channel_stub()
    token = channel.create_channel("alice")
    channel_stub.connect_channel(token)

    def send(number):
        for index in range(50):
            channel.send_message("alice", f"{number}-{index}")

    threads = [threading.Thread(target=send, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(channel_stub.get_channel_messages(token)) == 200
