"""Nothing of a test is left when it is over."""

from __future__ import annotations

GONE = """
    import gc
    import weakref
    from pytest_channelstub import ChannelServiceStub, FakeClock, channel

    gone = []

    def test_one(channel_stub, channel_client):
        alice = channel_client("alice")
        channel.send_message("alice", "hello")
        gone.append(weakref.ref(channel_stub))
        gone.append(weakref.ref(channel_stub.timeline))

    def test_by_hand():
        stub = ChannelServiceStub(time_func=FakeClock().time)
        stub.connect_channel(channel.create_channel("alice"))
        gone.append(weakref.ref(stub))

    def test_two():
        gc.collect()
        assert [reference() for reference in gone] == [None, None, None]
"""


def test_no_reference_to_a_stub_survives_its_scope(pytester):
    pytester.makepyfile(GONE)

    pytester.runpytest_subprocess().assert_outcomes(passed=3)


def test_a_stub_that_nobody_holds_is_not_active_any_more(pytester):
    pytester.makepyfile(
        """
        import gc

        import pytest
        from pytest_channelstub import ChannelServiceStub, FakeClock, InvalidTokenError, channel

        def refuse(call):
            with pytest.raises(InvalidTokenError):
                call("nonsense")

        def test_it():
            gc.disable()
            stub = ChannelServiceStub(time_func=FakeClock().time)
            stub.connect_channel(channel.create_channel("alice"))
            refuse(stub.connect_channel)
            refuse(stub.connect_and_pop_first_message)
            refuse(stub.validate_token_and_extract_client_id)
            del stub
            with pytest.raises(AssertionError, match="Request the channel_stub fixture"):
                channel.create_channel("alice")
        """
    )

    pytester.runpytest_subprocess().assert_outcomes(passed=1)


def test_a_run_in_development_mode_is_clean(pytester, monkeypatch):
    monkeypatch.setenv("PYTHONDEVMODE", "1")
    pytester.makepyfile(
        """
        from pytest_channelstub import channel

        def test_it(channel_stub, channel_clock, channel_client):
            alice = channel_client("alice", keep_alive=True)
            channel.send_message("alice", "hello")
            channel_clock.advance(hours=3)
            assert not alice.connected
        """
    )

    result = pytester.runpytest_subprocess("-W", "error")

    result.assert_outcomes(passed=1)
    assert result.stderr.str() == ""


def test_a_page_of_a_test_that_failed_keeps_nobody_connected_in_the_next(pytester):
    pytester.makeini("[pytest]\nchannelstub_scope = session\n")
    pytester.makepyfile(
        """
        def test_fails(channel_client):
            alice = channel_client("alice", keep_alive=True)
            assert 0

        def test_next(channel_client, channel_clock):
            alice = channel_client("alice")
            channel_clock.advance(2)
            assert not alice.connected
        """
    )

    pytester.runpytest().assert_outcomes(passed=1, failed=1)
