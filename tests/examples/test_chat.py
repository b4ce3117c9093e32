"""The chat, tested with pytest-channelstub: presence, messages, expiry, time-outs."""

from __future__ import annotations

import pytest
from chat import HISTORY

from pytest_channelstub import (
    TokenTimedOutError,
    apiproxy_errors,
    assert_dropped,
    assert_sent,
    assert_token_expired,
    assert_token_valid,
)


def said(name, text):
    return {"said": text, "by": name}


def joined(name):
    return {"joined": name}


def left(name):
    return {"left": name}


def present(*names):
    return {"present": list(names)}


def test_joining_gives_a_token_for_a_channel_of_ones_own(channel_stub, join):
    alice, bob = join("alice"), join("bob")
    assert_token_valid(channel_stub, alice.token, "alice/1")
    assert_token_valid(channel_stub, bob.token, "bob/2")


def test_a_user_is_present_once_the_page_has_opened_its_channel(site, join):
    alice = join("alice")
    assert site.get("/present") == []
    alice.open()
    assert site.get("/present") == ["alice"]


def test_a_newcomer_is_greeted_with_the_names_of_those_present(enter, join):
    enter("alice")
    bob = join("bob").open()
    assert bob.read() == [present("alice", "bob")]


def test_those_present_hear_of_a_newcomer(enter):
    alice = enter("alice")
    enter("bob")
    assert alice.read() == [joined("bob")]


def test_a_message_reaches_everybody_the_speaker_too(enter):
    alice, bob, carol = enter("alice"), enter("bob"), enter("carol")
    bob.say("good morning")
    for tab in (alice, bob, carol):
        assert tab.read()[-1] == said("bob", "good morning")


def test_messages_arrive_in_the_order_in_which_they_were_said(enter):
    alice, bob = enter("alice"), enter("bob")
    alice.say("one")
    bob.say("two")
    alice.say("three")
    assert bob.read() == [said("alice", "one"), said("bob", "two"), said("alice", "three")]


def test_a_message_sent_before_the_page_opened_its_channel_is_dropped(channel_stub, enter, join):
    alice = enter("alice")
    bob = join("bob")
    alice.say("too early for bob")
    assert_dropped(channel_stub, bob.token, said("alice", "too early for bob"))
    assert_sent(channel_stub, alice.token, said("alice", "too early for bob"))


def test_the_history_makes_up_for_what_was_dropped(enter, join):
    alice = enter("alice")
    bob = join("bob")
    alice.say("too early for bob")
    bob.open()
    assert bob.read() == [present("alice", "bob"), said("alice", "too early for bob")]


def test_the_history_holds_the_last_twenty_messages(enter, join):
    alice = enter("alice")
    for number in range(HISTORY + 5):
        alice.say(f"message {number}")
    bob = join("bob").open()
    assert [message["said"] for message in bob.read()[1:]] == [
        f"message {number}" for number in range(5, HISTORY + 5)
    ]


def test_closing_the_page_tells_the_others(site, enter):
    alice, bob = enter("alice"), enter("bob")
    bob.close()
    assert alice.read() == [joined("bob"), left("bob")]
    assert site.get("/present") == ["alice"]


def test_a_page_that_stops_polling_has_left_after_two_seconds(site, channel_clock, enter):
    alice = enter("alice", keep_alive=True)
    enter("bob")
    channel_clock.advance(1.9)
    assert site.get("/present") == ["alice", "bob"]
    channel_clock.advance(0.1)
    assert site.get("/present") == ["alice"]
    assert alice.read() == [joined("bob"), left("bob")]


def test_polling_keeps_a_user_present(site, channel_clock, enter):
    alice = enter("alice")
    for _ in range(10):
        channel_clock.advance(1.5)
        alice.client.poll()
    assert site.get("/present") == ["alice"]


def test_each_user_times_out_at_their_own_time(channel_stub, channel_clock, enter):
    enter("alice")
    channel_clock.advance(0.5)
    enter("bob")
    channel_clock.advance(minutes=1)
    timeouts = [
        (event.client_id, event.at - channel_clock.start)
        for event in channel_stub.timeline.of(kind="timeout")
    ]
    assert timeouts == [("alice/1", 2.0), ("bob/2", 2.5)]


def test_a_page_that_comes_back_reads_what_it_missed(channel_stub, channel_clock, enter, join):
    alice = enter("alice", keep_alive=True)
    bob = join("bob")
    alice.say("hello")  # before bob's page has opened its channel
    assert_dropped(channel_stub, bob.token, said("alice", "hello"))
    bob.open()
    assert bob.read() == [present("alice", "bob"), said("alice", "hello")]
    channel_clock.advance(minutes=5)  # and bob's page does not poll
    alice.say("bye")
    bob.open()
    assert bob.read() == [present("alice", "bob"), said("alice", "hello"), said("alice", "bye")]


def test_an_open_page_loses_its_channel_when_the_token_expires(site, channel_clock, enter):
    alice = enter("alice", keep_alive=True)
    channel_clock.advance(minutes=59)
    assert alice.client.connected
    channel_clock.advance(minutes=2)
    assert not alice.client.connected
    assert site.get("/present") == []


def test_an_expired_token_opens_no_channel_and_a_new_one_does(channel_stub, channel_clock, join):
    early = join("alice")
    channel_clock.advance(hours=1, seconds=1)
    assert_token_expired(channel_stub, early.token)
    with pytest.raises(TokenTimedOutError):
        early.open()
    assert join("alice").open().read() == [present("alice")]


def test_every_tab_of_a_user_gets_every_message(enter):
    work, home, bob = enter("alice"), enter("alice"), enter("bob")
    bob.say("hello, alice")
    assert work.read()[-1] == said("bob", "hello, alice")
    assert home.read()[-1] == said("bob", "hello, alice")


def test_a_user_with_two_tabs_leaves_with_the_last_of_them(site, enter):
    bob, work, home = enter("bob"), enter("alice"), enter("alice")
    work.close()
    assert site.get("/present") == ["alice", "bob"]
    home.close()
    assert site.get("/present") == ["bob"]
    assert bob.read() == [joined("alice"), left("alice")]


@pytest.mark.parametrize("name", ["Zoë", "日本語", "a&b=c+d %41", "from/here"])
def test_names_of_any_script_come_through_the_presence_requests(site, enter, name):
    enter(name)
    assert site.get("/present") == [name]


@pytest.mark.parametrize("name", ["", "   ", "x" * 300])
def test_a_name_that_is_empty_or_too_long_is_refused(channel_stub, site, name):
    site.post("/join", name=name)
    assert site.status == 400
    assert channel_stub.timeline.of(kind="create") == ()


def test_a_text_that_is_too_long_is_refused_and_reaches_nobody(site, enter):
    alice, bob = enter("alice"), enter("bob")
    alice.say("x" * 2001)
    assert site.status == 413
    assert bob.read() == []


def test_nobody_speaks_without_a_token(site, enter):
    alice = enter("alice")
    site.post("/say", token=alice.token + "x", text="I am alice")
    assert site.status == 403
    assert alice.read() == []


def test_nobody_but_app_engine_says_who_is_present(site, enter):
    enter("alice")
    site.post("/_ah/channel/disconnected/", **{"from": "alice/1"})
    assert site.status == 403
    assert site.get("/present") == ["alice"]


def test_a_message_that_the_service_did_not_take_is_not_in_the_history(channel_stub, enter, join):
    alice = enter("alice")
    channel_stub.SetError(apiproxy_errors.OverQuotaError())
    with pytest.raises(apiproxy_errors.OverQuotaError):
        alice.say("too much")
    channel_stub.SetError(None)
    bob = join("bob").open()
    assert bob.read() == [present("alice", "bob")]


def test_the_front_page_loads_the_script_of_the_channel_api(site):
    assert '<script src="/_ah/channel/jsapi">' in site.get("/")
