"""What a reader of pytest's output sees of a failure: its summary, its text, its section."""

from __future__ import annotations

import re
import sys

import pytest

CHAT = """
from pytest_channelstub import channel

def notify(client_id, message):
    channel.send_message(client_id, message)
"""
LOST = """
import unittest

import pytest
from chat import notify
from pytest_channelstub import assert_queued

def test_it(channel_stub, channel_clock, channel_client):
    channel_clock.advance(1.5)
    notify("bob", "hi")
    channel_clock.advance(0.5)
    channel_client("bob")
    assert_queued(channel_stub, "bob", "hi")
"""


def run(pytester, test, *options):
    """The output of a run of one test, with `N` for the numbers of lines."""
    pytester.makepyfile(chat=CHAT)
    pytester.makepyfile(test_chat=test)
    result = pytester.runpytest(*options)
    return re.sub(r"\.py:\d+", ".py:N", result.stdout.str())


@pytest.fixture(autouse=True)
def _no_other_chat(monkeypatch):
    """The examples have a module of this name too, which may be imported already."""
    monkeypatch.delitem(sys.modules, "chat", raising=False)


@pytest.fixture
def wide(monkeypatch):
    """A terminal wide enough for a summary that is not cut."""
    monkeypatch.setenv("COLUMNS", "200")


@pytest.mark.usefixtures("wide")
def test_the_summary_shows_the_first_line(pytester):
    assert (
        "FAILED test_chat.py::test_it - AssertionError: 'hi' is not pending for bob: it was "
        "dropped at +1.5 s, before bob connected (+2.0 s)\n"
    ) in run(pytester, LOST)


@pytest.mark.parametrize("options", [(), ("-vv",), ("--tb=short",)], ids=" ".join)
@pytest.mark.parametrize("is_ci", [True, False])
def test_the_timeline_is_shown_once_and_says_why(options, is_ci, pytester, monkeypatch):
    monkeypatch.setenv("CI", "true") if is_ci else monkeypatch.delenv("CI", raising=False)
    output = run(pytester, LOST, *options)
    line = "+1.5 s  drop     bob  'hi'  <- before bob connected (+2.0 s)  (chat.py:N in notify)"
    assert output.count(line) == 1
    assert output.count("<- before bob connected") == 1
    assert len(re.findall(r"^E +sent by notify\(\) at chat\.py:N$", output, re.MULTILINE)) == 1


OUTSIDE = """
from chat import notify
from pytest_channelstub import ChannelClient, ChannelServiceStub, FakeClock, assert_queued, channel

with ChannelServiceStub(time_func=FakeClock().time) as stub:
    notify("bob", "hi")
    assert_queued(stub, "bob", "hi")
"""


def test_outside_pytest_the_timeline_ends_the_text(pytester):
    pytester.makepyfile(chat=CHAT)
    assert pytester.runpython(pytester.makepyfile(script=OUTSIDE)).errlines[-5:] == [
        (
            "AssertionError: 'hi' is not pending for bob: it was dropped at +0.0 s: bob did not "
            "connect in this test"
        ),
        "  sent by notify() at chat.py:4",
        (
            "  hint: Connect it before the app sends: ChannelClient(stub, "
            "channel.create_channel('bob'))."
        ),
        "timeline:",
        "  +0.0 s  drop  bob  'hi'  <- bob did not connect in this test  (chat.py:4 in notify)",
    ]


def test_what_to_do_outside_pytest(pytester):
    pytester.makepyfile(chat=CHAT)
    connected = OUTSIDE.replace(
        "    notify", "    ChannelClient(stub, channel.create_channel('bob'))\n    notify"
    )
    assert pytester.runpython(pytester.makepyfile(script=connected)).ret == 0


MARKED = """
import pytest
from chat import notify
from pytest_channelstub import apiproxy_errors, assert_queued

@pytest.mark.channel_error(apiproxy_errors.OverQuotaError("enough"), call="SendChannelMessage")
def test_it(channel_stub, channel_client):
    channel_client("alice")
    try:
        notify("alice", "hi")
    except apiproxy_errors.OverQuotaError:
        pass
    assert_queued(channel_stub, "alice", "hi")
"""


def test_an_error_that_a_marker_has_set(pytester):
    output = run(pytester, MARKED)
    assert (
        "E       AssertionError: 'hi' is not pending for alice: it was not sent: the call raised "
        "OverQuotaError at +0.0 s, set by @pytest.mark.channel_error at test_chat.py::test_it\n"
        "E         called by notify() at chat.py:N\n"
        "E         nothing is pending; alice is connected, since +0.0 s\n"
        "E         hint: Remove that marker, or have the app handle the error.\n"
    ) in output
    assert "1 passed" in run(pytester, re.sub(r"@pytest\.mark.*", "", MARKED))


PLAIN = """
import unittest

import pytest
from chat import notify
from pytest_channelstub import ChannelServiceStub, FakeClock, channel

def test_drop(channel_client):
    notify("alice", "hi")
    assert channel_client("alice").messages == ["hi"]

def test_refusal(channel_client):
    alice = channel_client("alice")
    try:
        notify("alice", {"move": "e4"})
    except channel.Error:
        pass
    assert alice.messages == ["hi"]

def answer_500(environ, start_response):
    start_response("500 Internal Server Error", [])
    return [b"no such user"]

@pytest.mark.filterwarnings("ignore")
def test_app(channel_stub, channel_client):
    channel_stub.app = answer_500
    assert channel_client("alice").messages == ["hi"]

def test_other(channel_client):
    alice = channel_client("alice")
    with ChannelServiceStub(time_func=FakeClock().time):
        notify("alice", "hi")
        assert alice.messages == ["hi"]

@pytest.mark.usefixtures("channel_stub")
class OldTest(unittest.TestCase):
    def test_it(self):
        notify("alice", "hi")
        self.fail()
"""


@pytest.mark.parametrize(
    ("test", "line"),
    [
        (
            "test_drop",
            (
                "+0.0 s  drop     alice  'hi'  <- alice was not connected yet, and connected only "
                "afterwards  (chat.py:N in notify)"
            ),
        ),
        (
            "test_refusal",
            ("- a call for alice was refused at +0.0 s; called by notify() at chat.py:N"),
        ),
        (
            "test_app",
            "- the app answered 500 Internal Server Error when alice connected (+0.0 s)",
        ),
        (
            "test_other",
            "- 1 message went to another stub, which was built by test_other() at test_chat.py:N",
        ),
        (
            "OldTest",
            (
                "+0.0 s  drop  alice  'hi'  <- alice did not connect in this test  "
                "(chat.py:N in notify)"
            ),
        ),
    ],
)
def test_the_section_of_a_plain_assert_says_what_is_worth_knowing(test, line, pytester):
    output = run(pytester, PLAIN, "-k", test)
    assert line in output.partition("- channel timeline -")[2]


MIXED_UP = """
def test_it(channel_stub, channel_client, channel_clock):
    alice = channel_client("alice")
    channel_stub.get_channel_messages("alice")
    channel_stub.pop_first_message("nobody")
    channel_stub.clear_channel_messages(alice)
    channel_stub.disconnect_channel_event(alice.token)
    assert not channel_stub.has_channel_messages(alice.token)
    channel_clock.advance(hours=2, seconds=1)
    channel_stub.client_id_from_token(alice.token)
    channel_stub.client_id_from_token(alice.token)
    assert False
"""


def test_the_section_says_where_a_token_or_a_client_id_was_wanted(pytester):
    output = run(pytester, MIXED_UP)
    output = re.sub(r"\w{6}\.\.\.alice", "N", output)
    output = re.sub(r"\('\w{32}.*?'\)|\(<.*>\)", "(...)", output)
    by = "; called by test_it() at test_chat.py:N"
    assert [line for line in output.splitlines() if line.startswith("- ")] == [
        f"- get_channel_messages('alice') takes a valid token, and this is a client id{by}",
        f"- pop_first_message('nobody') takes a valid token, and this is not one{by}",
        f"- clear_channel_messages(...) takes a valid token, and this is not one{by}",
        (
            "- client_id_from_token(...) takes a valid token, and this is token N, which had "
            f"expired at +2 h 0 min 1 s{by}"
        ),
        "- token N was taken for a client id: pass 'alice'",
    ]


def test_of_several_stubs_each_timeline_has_a_heading(pytester):
    section = run(pytester, PLAIN, "-k", "test_other").partition("- channel timeline -")[2]
    assert re.findall(r"^the stub of .*", section, re.MULTILINE) == [
        "the stub of channel_stub:",
        "the stub of test_chat.py:N in test_other:",
    ]


def test_what_came_before_the_test_is_left_out(pytester):
    pytester.makeini("[pytest]\nchannelstub_scope = session")
    output = run(
        pytester,
        """
        from chat import notify
        from pytest_channelstub import assert_sent

        def test_one(channel_stub, channel_client):
            channel_client("alice", keep_alive=True)
            notify("alice", "early")

        def test_two(channel_stub, channel_clock):
            assert_sent(channel_stub, "alice", "early")
        """,
    )
    assert (
        "E       AssertionError: 'early' was not sent to alice: it was pending before the reset, "
        "and not sent in this test\n"
    ) in output
    assert "(no events)" in output.partition("- channel timeline -")[2]


STRICT = """
import pytest
from chat import notify
from pytest_channelstub import assert_dropped, assert_sent

@pytest.mark.channel_stub(strict="dropped,unread")
def test_it(channel_stub, channel_client):
    notify("alice", "early")
    alice = channel_client("alice")
    notify("alice", "late")
"""


def test_a_test_that_leaves_messages_behind(pytester):
    assert (
        "the test passed, but 'early' to alice was dropped at +0.0 s: alice was not connected yet, "
        "and connected only afterwards; sent by notify() at chat.py:N\n"
        "  'late' to alice was sent at +0.0 s and is pending; sent by notify() at chat.py:N\n"
        'With strict="dropped,unread" a test reads each message, or names it in '
        "assert_queued, assert_sent or assert_dropped. To allow any: "
        '@pytest.mark.channel_stub(strict="")\n'
    ) in run(pytester, STRICT)


@pytest.mark.parametrize("read", ["alice.receive()", "assert_sent(channel_stub, 'alice', 'late')"])
def test_a_test_that_reads_each_message_or_asserts_on_it_leaves_none(read, pytester):
    test = f"{STRICT}    {read}\n    assert_dropped(channel_stub, 'alice', 'early')\n"
    assert "1 passed" in run(pytester, test)
    assert "1 passed" in run(pytester, STRICT.replace('"dropped,unread"', '""'))


LATE_START = """
import pytest

@pytest.mark.channel_stub(start="2024-02-29")
def test_it(channel_stub):
    ...
"""


def test_a_start_for_a_stub_of_the_session(pytester):
    pytester.makeini("[pytest]\nchannelstub_scope = session")
    assert (
        "test_chat.py::test_it: @pytest.mark.channel_stub(start=...) comes too late: the stub is "
        "built once for the session; set the ini option channelstub_start, or use "
        "channelstub_scope=function\n"
    ) in run(pytester, LATE_START)


def test_a_start_by_the_ini_option_for_a_stub_of_the_session(pytester):
    pytester.makeini("[pytest]\nchannelstub_scope = session\nchannelstub_start = 2024-02-29")
    test = LATE_START.replace("@pytest", "# @pytest").replace(
        "...", "assert channel_stub.clock.now.isoformat() == '2024-02-29T00:00:00+00:00'"
    )
    assert "1 passed" in run(pytester, test)


def test_an_error_that_is_its_own_cause_fails_its_test_alone(pytester):
    pytester.makepyfile(
        """
        def test_it():
            try:
                {}["key"]
            except KeyError as error:
                raise error from error

        def test_of_two():
            one, other = KeyError(1), KeyError(2)
            one.__cause__, other.__cause__ = other, one
            raise one

        def test_after_it(): pass
        """
    )

    result = pytester.runpytest()

    result.assert_outcomes(passed=1, failed=2)


def test_a_message_that_went_to_one_of_two_stubs_of_a_line_is_not_forgotten(pytester):
    pytester.makepyfile(
        """
        from pytest_channelstub import channel

        def test_it(channel_stub, make_channel_stub):
            for text in ("hello", ""):
                with make_channel_stub():
                    if text:
                        channel.send_message("bob", text)
            assert channel_stub.pending("bob") == ("hello",)
        """
    )

    result = pytester.runpytest()

    line = "- 1 message went to another stub, which was built by test_it() at *:5"
    result.stdout.fnmatch_lines([line])


def test_no_stub_is_active_before_fixtures_are_built(pytester):
    pytester.makepyfile(
        """
        import unittest
        import pytest
        from pytest_channelstub import channel

        class TestMethod:
            def setup_method(self):
                channel.create_channel("alice")

            def test_it(self, channel_stub): pass

        class TestClass(unittest.TestCase):
            @classmethod
            def setUpClass(cls):
                channel.create_channel("alice")

            @pytest.mark.usefixtures("channel_stub")
            def test_it(self): pass

        class TestAdvice:
            @pytest.fixture(autouse=True)
            def set_up(self, channel_stub):
                channel.create_channel("alice")

            def test_it(self): pass
        """
    )
    result = pytester.runpytest()

    result.assert_outcomes(passed=1, errors=2)
    for name in ("setup_method", "setUpClass"):
        result.stdout.fnmatch_lines(
            f"*no stub is active in {name}, which pytest calls before it builds fixtures. Put what "
            f"{name} does into a fixture: [@]pytest.fixture(autouse=True) def set_up(self, "
            "channel_stub); with a testbed*"
        )


def test_what_the_reset_before_a_test_has_emptied(pytester):
    pytester.makeini("[pytest]\nchannelstub_scope = module\n")
    pytester.makepyfile(
        """
        import pytest
        from pytest_channelstub import assert_queued, channel

        def test_one(channel_client):
            channel_client("alice")
            channel.send_message("alice", "hi")

        def test_two(channel_stub):
            assert_queued(channel_stub, "alice", "hi")

        def test_three(channel_stub):
            channel.send_message("alice", "hi")
            channel_stub.reset("all")
            assert_queued(channel_stub, "alice", "hi")

        def test_four(channel_client):
            channel_client("alice")
            channel.send_message("alice", "hi")

        @pytest.mark.channel_reset("nothing")  # as the hint says
        def test_five(channel_stub):
            assert_queued(channel_stub, "alice", "hi")
        """
    )

    result = pytester.runpytest()

    result.assert_outcomes(passed=3, failed=2)
    result.stdout.fnmatch_lines(
        [
            "E*: it was pending before the reset, and not sent in this test",
            'E *hint: Keep it: @pytest.mark.channel_reset("nothing").',
            "E*: it was pending before the reset, and not sent since reset('all')",
            "E *hint: Assert before the reset.",
        ]
    )


def test_a_client_that_an_earlier_test_kept_alive(pytester):
    pytester.makeini("[pytest]\nchannelstub_scope = module\n")
    pytester.makepyfile(
        """
        from pytest_channelstub import assert_connected

        def test_one(channel_client):
            channel_client("bob", keep_alive=True)

        def test_two(channel_stub, channel_clock):
            channel_clock.advance(5)
            assert_connected(channel_stub, "bob")

        def test_advice(channel_stub, channel_clock, channel_client):
            channel_client('bob', keep_alive=True)
            channel_clock.advance(5)
            assert_connected(channel_stub, "bob")
        """
    )

    result = pytester.runpytest("-p", "no:randomly")

    result.assert_outcomes(passed=2, failed=1)
    result.stdout.fnmatch_lines(
        "E *hint: Connect it in this test, as keep_alive ends with its test: "
        "channel_client('bob', keep_alive=True)."
    )
