"""What a type checker refuses: each comment below is an error for it where none is found."""
# pyright: reportUnnecessaryTypeIgnoreComment=true

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_channelstub import assert_sent

if TYPE_CHECKING:
    from pytest_channelstub import ChannelServiceStub, ConnectClient, MakeChannelStub


def misspelt_keywords(
    channel_client: ConnectClient, make_channel_stub: MakeChannelStub, stub: ChannelServiceStub
) -> None:
    """Keywords that the fixtures' functions and the helpers do not take."""
    channel_client("alice", duration=5)  # type: ignore[call-arg]
    channel_client("alice", keepalive=True)  # type: ignore[call-arg]
    make_channel_stub(strat="2024-02-29")  # type: ignore[call-arg]
    assert_sent(stub, "alice", "hello", times=2)  # type: ignore[call-arg]
    stub.wait_for("send", client="alice")  # type: ignore[call-arg]
    stub.clock.advance(hour=2)  # type: ignore[call-arg]


def other_values(make_channel_stub: MakeChannelStub, stub: ChannelServiceStub) -> None:
    """Values out of a closed set."""
    make_channel_stub(clock="frozen")  # type: ignore[arg-type]
    stub.reset("queue")  # type: ignore[arg-type]
    stub.wait_for("sent")  # type: ignore[arg-type]
    stub.timeline.of(kind="dropped")  # type: ignore[arg-type]
    stub.disconnect("alice", "closed")  # type: ignore[arg-type]


def other_types(make_channel_stub: MakeChannelStub, stub: ChannelServiceStub) -> None:
    """Arguments of another type, or in another way."""
    make_channel_stub("2024-02-29")  # type: ignore[call-arg]
    make_channel_stub(app="app")  # type: ignore[arg-type]
    stub.clock.move_to(None)  # type: ignore[arg-type]
