"""What is done to an SDK, shown on a stand-in: so that it is tested where none is installed."""

import importlib
import importlib.util
import sys

import pytest

from pytest_channelstub import apiproxy_errors, channel
from pytest_channelstub._appengine import importing as appengine
from pytest_channelstub._appengine import patches
from pytest_channelstub._service.clock import FakeClock
from pytest_channelstub._service.registry import registry
from pytest_channelstub._service.stub import ChannelServiceStub


@pytest.fixture
def stub_map(standin):
    return importlib.import_module("google.appengine.api.apiproxy_stub_map")


@pytest.fixture
def testbed(standin):
    return importlib.import_module("google.appengine.ext.testbed")


@pytest.fixture
def stub():
    with ChannelServiceStub(time_func=FakeClock().time) as stub:
        yield stub


def test_testbed_is_patched_when_it_is_imported(standin, installed):
    installed()

    testbed = importlib.import_module("google.appengine.ext.testbed")

    assert testbed.SUPPORTED_SERVICES == ["blobstore", "channel", "user"]
    assert testbed.INIT_STUB_METHOD_NAMES["channel"] == "init_channel_stub"


def test_testbed_is_patched_when_it_was_imported_before(testbed, installed):
    services = testbed.SUPPORTED_SERVICES
    installed()

    assert services == ["blobstore", "channel", "user"]


def test_testbed_is_patched_once(testbed, installed):
    installed()
    installed()
    importlib.import_module("google.appengine.ext.testbed")

    assert testbed.SUPPORTED_SERVICES.count("channel") == 1


def test_a_reloaded_testbed_is_patched_again(testbed, installed):
    installed()

    importlib.reload(testbed)

    assert testbed.SUPPORTED_SERVICES.count("channel") == 1


def test_undo_leaves_the_sdk_as_it_was(testbed, stub_map):
    def state():
        return (
            dict(vars(testbed.Testbed)),
            dict(testbed.INIT_STUB_METHOD_NAMES),
            list(testbed.SUPPORTED_SERVICES),
            dict(vars(stub_map.APIProxyStubMap)),
        )

    before = state()
    installation = appengine.install()
    assert state() != before

    installation.undo()

    assert state() == before


def test_a_testbed_that_has_the_service_keeps_its_own(testbed, installed):
    testbed.INIT_STUB_METHOD_NAMES["channel"] = "init_channel_stub"
    own = testbed.Testbed.init_channel_stub

    installed()

    assert testbed.Testbed.init_channel_stub is own


def test_an_sdk_without_testbed_is_no_trouble(standin, installed):
    (standin / "google/appengine/ext/testbed/__init__.py").unlink()
    (standin / "google/appengine/ext/testbed").rmdir()
    installed()

    assert importlib.util.find_spec("google.appengine.ext.testbed") is None


def test_the_watched_modules_keep_their_loader(standin, installed):
    installed()

    testbed = importlib.import_module("google.appengine.ext.testbed")

    assert testbed.__loader__ is testbed.__spec__.loader
    assert type(testbed.__loader__).__module__ != appengine.__name__


def test_testbed_registers_the_active_stub(testbed, installed, stub):
    installed()
    bed = testbed.Testbed()
    bed.activate()
    bed.init_channel_stub()

    assert bed.get_stub("channel") is stub
    bed.deactivate()
    assert channel.create_channel("alice")
    assert len(stub.timeline.of("alice", kind="create")) == 1


def test_testbed_makes_a_stub_where_none_is_active_and_ends_it(testbed, stub_map, installed):
    installed()
    bed = testbed.Testbed()
    bed.activate()
    bed.init_all_stubs()
    own = bed.get_stub("channel")

    token = channel.create_channel("alice")
    assert own.client_id_from_token(token) == "alice"
    bed.deactivate()

    with pytest.raises(AssertionError, match="channel_stub fixture"):
        channel.create_channel("alice")


def test_a_testbed_never_deactivated_lends_its_stub_to_nobody(testbed, installed):
    installed()
    first, second = testbed.Testbed(), testbed.Testbed()
    for bed in (first, second):
        bed.activate()
        bed.init_channel_stub()

    assert first.get_stub("channel") is not second.get_stub("channel")
    second.deactivate()
    first.deactivate()


def test_a_service_switched_off_fails_although_a_stub_is_active(testbed, installed, stub):
    installed()
    bed = testbed.Testbed()
    bed.activate()
    bed.init_channel_stub(enable=False)

    with pytest.raises(AssertionError, match="nothing for channel"):
        channel.create_channel("alice")

    bed.init_channel_stub(True)
    assert channel.create_channel("alice")
    bed.init_channel_stub(False)
    bed.deactivate()
    assert channel.create_channel("alice")


def test_a_stub_that_a_suite_registers_in_testbed_by_hand_is_reached(testbed, stub_map, installed):
    installed()
    bed = testbed.Testbed()
    bed.activate()
    with ChannelServiceStub() as own, ChannelServiceStub():
        bed._register_stub("channel", own)

        assert stub_map.apiproxy.GetStub("channel") is own
        bed.deactivate()


def test_a_testbed_that_outlives_the_stub_it_was_lent_lets_it_go(testbed, stub_map, installed):
    installed()
    bed = testbed.Testbed()
    bed.activate()
    with ChannelServiceStub() as stub:
        bed.init_channel_stub()

    assert bed.get_stub("channel") is None
    assert stub_map.apiproxy.GetStub("channel") is None
    with ChannelServiceStub() as stub:
        channel.create_channel("alice")
        assert len(stub.timeline) == 1
    bed.deactivate()


def test_a_stub_that_outlives_its_testbeds_keeps_nothing_of_them(testbed, installed, stub):
    installed()
    for _ in range(3):
        bed = testbed.Testbed()
        bed.activate()
        bed.init_channel_stub()
        bed.deactivate()

    assert stub._closing == []


def test_testbed_keeps_to_its_own_way_with_other_stubs(testbed, stub_map, installed):
    installed()
    bed = testbed.Testbed()
    bed.activate()
    other = object()
    bed._register_stub("user", other)

    assert bed.get_stub("user") is other
    assert stub_map.apiproxy.GetStub("user") is None
    bed.deactivate()


def test_an_installation_whose_finders_were_removed_is_renewed(
    testbed, stub_map, installed, monkeypatch
):
    installed()
    patched = stub_map.APIProxyStubMap.GetStub
    others = [each for each in sys.meta_path if each is not appengine._FINDER]
    monkeypatch.setattr(sys, "meta_path", others)

    installed()

    assert appengine._FINDER in sys.meta_path
    assert stub_map.APIProxyStubMap.GetStub is patched
    assert testbed.SUPPORTED_SERVICES.count("channel") == 1


def test_a_suite_that_replaces_the_modules_own_call_sees_every_call(
    stub_map, installed, monkeypatch
):
    installed()
    seen = []
    monkeypatch.setattr(stub_map, "MakeSyncCall", lambda *arguments: seen.append(arguments[:2]))

    channel.send_message("alice", "hello")
    with ChannelServiceStub() as stub:
        channel.send_message("alice", "hello")

    assert seen == [("channel", "SendChannelMessage")] * 2
    assert not stub.timeline


def test_calls_go_through_the_map(stub_map, installed, stub):
    installed()

    channel.create_channel("alice")
    channel.send_message("alice", "hello")

    assert stub_map.apiproxy.calls == ["CreateChannel", "SendChannelMessage"]


def test_the_current_map_finds_the_active_stub_until_it_is_closed(stub_map, installed):
    installed()
    with ChannelServiceStub() as stub:
        assert stub_map.apiproxy.GetStub("channel") is stub
        stub_map.apiproxy = stub_map.APIProxyStubMap()
        assert stub_map.apiproxy.GetStub("channel") is stub
        assert stub_map.APIProxyStubMap().GetStub("channel") is None
        assert stub_map.apiproxy.GetStub("user") is None

    assert stub_map.apiproxy.GetStub("channel") is None


def test_the_active_stub_does_not_hide_a_registered_one(stub_map, installed, stub):
    installed()
    channel.create_channel("alice")

    with ChannelServiceStub() as registered, ChannelServiceStub():
        stub_map.apiproxy.RegisterStub("channel", registered)
        channel.create_channel("bob")

    assert [event.client_id for event in stub.timeline] == ["alice"]
    assert [event.client_id for event in registered.timeline] == ["bob"]


def test_a_default_stub_comes_after_the_active_stub(stub_map, installed):
    installed()
    default = ChannelServiceStub()
    registry.deactivate(default)
    stub_map.apiproxy = stub_map.APIProxyStubMap(default)

    with ChannelServiceStub() as stub:
        channel.create_channel("alice")
    channel.create_channel("bob")

    assert [event.client_id for event in stub.timeline] == ["alice"]
    assert [event.client_id for event in default.timeline] == ["bob"]


def test_the_sdks_bridge_to_the_production_service_is_no_stub(stub_map, installed):
    installed()
    bridge = type("DefaultApiStub", (), {"__module__": "google.appengine.runtime.default_api_stub"})
    stub_map.apiproxy = stub_map.APIProxyStubMap(bridge())

    with pytest.raises(AssertionError, match="channel_stub fixture"):
        channel.create_channel("alice")


def test_without_an_installation_a_registered_stub_is_still_reached(stub_map, stub):
    channel.create_channel("alice")
    assert stub_map.apiproxy.calls == []

    stub_map.apiproxy.RegisterStub("channel", stub)
    channel.create_channel("bob")
    assert stub_map.apiproxy.calls == ["CreateChannel"]


def test_never_goes_past_the_map(stub_map, installed, stub):
    installed("never")
    stub_map.apiproxy.RegisterStub("channel", object())

    assert channel.create_channel("alice")


def test_without_a_map_the_stub_takes_the_call(stub_map, installed, stub):
    installed()
    stub_map.apiproxy = None

    assert channel.create_channel("alice")


def test_the_errors_are_the_installed_ones(standin, installed):
    installed()
    errors = importlib.import_module("google.appengine.runtime.apiproxy_errors")

    assert apiproxy_errors.Error is errors.Error
    assert patches.find_errors() is errors


def test_the_errors_are_imported_when_they_are_first_asked_for(standin, installed):
    installed("never")
    assert patches.find_errors() is None
    assert "google.appengine.runtime.apiproxy_errors" not in sys.modules

    installed("auto")
    assert patches.find_errors().__name__ == "google.appengine.runtime.apiproxy_errors"


def test_an_sdk_that_is_not_there_is_looked_for_once(standin, installed):
    (standin / "google/appengine/runtime/apiproxy_errors.py").unlink()
    installed("auto")

    assert patches.find_errors() is patches.find_errors() is None


def test_the_errors_are_our_own_under_never(standin, installed):
    installed("never")
    importlib.import_module("google.appengine.runtime.apiproxy_errors")

    assert apiproxy_errors.Error.__module__.startswith("pytest_channelstub")


def test_an_existing_except_clause_catches_an_error_that_is_set(standin, installed, stub):
    installed()
    errors = importlib.import_module("google.appengine.runtime.apiproxy_errors")
    stub.SetError(errors.Error("down"))

    with pytest.raises(errors.Error, match="down"):
        channel.create_channel("alice")


def test_the_request_data_that_only_warns_is_recognised(standin, installed):
    installed()
    assert patches.InstalledSDK().is_silent_request_data(None)
    assert not patches.InstalledSDK().is_silent_request_data(object())

    info = importlib.import_module("google.appengine.api.request_info")
    assert patches.InstalledSDK().is_silent_request_data(info._LocalRequestInfo())
    assert not patches.InstalledSDK().is_silent_request_data(object())


def test_request_data_with_a_dispatcher_of_its_own_is_not_silent(standin, installed):
    installed()
    info = importlib.import_module("google.appengine.api.request_info")

    class Recording(info._LocalRequestInfo):
        dispatcher = object()

    assert not patches.InstalledSDK().is_silent_request_data(Recording())
    installed("never")
    assert not patches.InstalledSDK().is_silent_request_data(info._LocalRequestInfo())


def test_a_call_goes_to_the_service_that_get_service_names(stub_map, installed, monkeypatch):
    installed()
    monkeypatch.setattr(channel, "_GetService", lambda: "news")

    with ChannelServiceStub() as usual, ChannelServiceStub(service_name="news") as news:
        channel.create_channel("alice")
        stub_map.apiproxy.RegisterStub("news", news)
        channel.send_message("alice", "hello")
        with pytest.raises(channel.InvalidMessageError):
            channel.send_message("alice", "")

    assert [event.kind for event in news.timeline] == ["create", "drop", "refuse"]
    assert not usual.timeline
