"""What a failed test's report shows of its stub: in the terminal, in junit's XML, under xdist."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET

import pytest

from pytest_channelstub import ChannelServiceStub, FakeClock, channel

FAILING = """
from pytest_channelstub import channel

def test_fails(channel_stub, channel_clock):
    channel_clock.advance(1.5)
    channel.send_message("alice", "too early")
    assert False

def test_passes(channel_stub):
    channel.send_message("alice", "unseen")

def test_fails_without_a_stub():
    assert False
"""
DROP = r"\+1\.5 s  drop  alice  'too early'"


def xml_of(pytester):
    return ET.parse(pytester.path / "out.xml")  # noqa: S314 (pytest has written it)


@pytest.mark.parametrize("workers", [(), ("-p", "xdist", "-n", "1")], ids=["alone", "xdist"])
def test_a_failed_test_shows_its_timeline_and_a_passed_one_nothing(pytester, workers):
    pytester.makepyfile(FAILING)
    result = pytester.runpytest("--junitxml=out.xml", *workers)
    result.assert_outcomes(failed=2, passed=1)

    output = result.stdout.str()
    assert len(re.findall("- channel timeline -", output)) == 1
    assert re.search(DROP, output)
    assert "unseen" not in output
    cases = {case.get("name"): case for case in xml_of(pytester).iter("testcase")}
    text = cases["test_fails"].find("failure").text
    assert "channel timeline" in text
    assert re.search(DROP, text)
    assert "channel timeline" not in cases["test_fails_without_a_stub"].find("failure").text
    assert list(cases["test_passes"]) == []


def test_the_last_50_events_are_shown_and_the_number_left_out(pytester):
    pytester.makepyfile("""
        from pytest_channelstub import channel

        def test_fails(channel_stub):
            for number in range(1060):
                channel.send_message("alice", f"message {number}")
            assert False
    """)
    result = pytester.runpytest()
    shown = re.findall(r"drop  alice  'message (\d+)'", result.stdout.str())
    assert shown == [str(number) for number in range(1010, 1060)]
    result.stdout.fnmatch_lines(["(1,010 earlier events left out)"])


def test_the_report_that_another_plugin_wraps_has_the_section(pytester):
    pytester.makeconftest("""
        import pytest

        @pytest.hookimpl(hookwrapper=True)
        def pytest_runtest_makereport():
            report = (yield).get_result()
            if report.failed:
                print("SEEN", "channel timeline" in report.longreprtext)
    """)
    pytester.makepyfile("def test_it(channel_stub): assert False")

    pytester.runpytest("-s").stdout.fnmatch_lines(["*SEEN True"])


def test_a_failure_in_setup_or_teardown_has_its_section_too(pytester):
    pytester.makepyfile("""
        import pytest
        from pytest_channelstub import channel

        @pytest.fixture
        def early(channel_stub):
            channel.send_message("alice", "in setup")
            raise ValueError

        @pytest.fixture
        def late(channel_stub):
            yield
            channel.send_message("alice", "in teardown")
            raise ValueError

        def test_one(early): ...
        def test_two(late): ...
    """)
    result = pytester.runpytest()
    result.assert_outcomes(errors=2, passed=1)
    result.stdout.re_match_lines([".*- channel timeline -.*", ".*'in setup'"])
    result.stdout.re_match_lines([".*- channel timeline -.*", ".*'in teardown'"])


def test_a_test_that_lacks_a_fixture_shows_what_came_before(pytester):
    pytester.makepyfile("""
        import pytest
        from pytest_channelstub import channel

        @pytest.fixture
        def early(channel_stub):
            channel.send_message("alice", "in setup")

        def test_lacks(early, no_such_fixture): ...
    """)
    result = pytester.runpytest("--color=no")
    result.assert_outcomes(errors=1)
    result.stdout.re_match_lines(
        [".*fixture 'no_such_fixture' not found", ".*- channel timeline -.*", ".*'in setup'"]
    )


def test_a_shared_stub_shows_the_events_of_the_failed_test_alone(pytester):
    pytester.makeini("[pytest]\nchannelstub_scope = module")
    pytester.makepyfile("""
        from pytest_channelstub import channel

        def test_one(channel_stub):
            channel.send_message("alice", "first")

        def test_two(channel_stub):
            channel.send_message("alice", "second")
            assert False

        def test_three(channel_stub):
            assert False

        def test_four():
            assert False
    """)
    result = pytester.runpytest()
    result.assert_outcomes(passed=1, failed=3)
    sections = result.stdout.str().split("- channel timeline -")[1:]
    assert len(sections) == 2
    assert "'second'" in sections[0]
    assert "'first'" not in sections[0]
    assert "(no events)" in sections[1]


def test_stubs_that_no_fixture_has_built_are_shown_too(pytester):
    pytester.makepyfile("""
        import unittest
        from pytest_channelstub import ChannelServiceStub, FakeClock, channel

        class Case(unittest.TestCase):
            def setUp(self):
                self.stub = ChannelServiceStub(time_func=FakeClock().time)
                self.addCleanup(self.stub.close)

            def test_fails(self):
                channel.send_message("alice", "by hand")
                self.fail("no")
    """)
    pytester.runpytest().stdout.re_match_lines([".*- channel timeline -.*", ".*'by hand'"])


def test_each_of_several_stubs_is_shown(pytester):
    pytester.makepyfile("""
        from pytest_channelstub import channel

        def test_fails(channel_stub, make_channel_stub):
            with make_channel_stub():
                channel.send_message("bob", "inner")
            channel.send_message("alice", "outer")
            assert False
    """)
    pytester.runpytest().stdout.re_match_lines(
        [".*alice  'outer'", ".*bob    'inner'|.*bob  'inner'"]
    )


def test_of_a_test_that_builds_stub_after_stub_the_first_and_the_last_are_shown(pytester):
    pytester.makepyfile("""
        from pytest_channelstub import ChannelServiceStub, FakeClock, channel

        def test_fails(channel_stub):
            channel.send_message("alice", "of the fixture")
            for number in range(1200):
                with ChannelServiceStub(time_func=FakeClock().time):
                    channel.send_message("alice", f"message {number}")
            assert False
    """)
    result = pytester.runpytest()

    drops = re.findall(r"^\+0\.0 s  drop  alice  '(.*?)'", result.stdout.str(), re.MULTILINE)
    assert drops == ["of the fixture", *(f"message {number}" for number in range(1193, 1200))]
    result.stdout.fnmatch_lines(["(1,193 stubs of this test, from its second on, are left out)"])


@pytest.mark.parametrize(("colour", "coloured"), [("yes", True), ("no", False)])
def test_kinds_are_coloured_only_where_pytest_colours(pytester, colour, coloured):
    pytester.makepyfile(FAILING)
    result = pytester.runpytest(f"--color={colour}", "--junitxml=out.xml")
    assert ("\x1b[31mdrop\x1b[0m" in result.stdout.str()) == coloured
    assert (
        "#x1B"
        not in (pytester.path / "out.xml").read_text("utf-8").partition("channel timeline")[2]
    )


def test_what_a_test_prints_is_not_coloured_as_a_timeline_is(pytester):
    pytester.makepyfile("""
        import pytest
        from pytest_channelstub import channel

        LINE = "+0.0 s  drop  alice  'hello'"

        @pytest.fixture
        def early(channel_stub):
            channel.send_message("alice", "hello")
            print(LINE)

        def test_lacks(early, no_such_fixture): ...

        def test_fails(channel_stub):
            channel.send_message("alice", "hello")
            print(LINE)
            assert False
    """)
    result = pytester.runpytest("--color=yes", "--show-capture=all")
    assert result.outlines.count("+0.0 s  drop  alice  'hello'") == 2
    coloured = "\x1b[2m+0.0 s\x1b[0m  \x1b[31mdrop\x1b[0m  alice  'hello'"
    assert result.stdout.str().count(coloured) == 2


HOSTILE = """
from pytest_channelstub import assert_queued, channel

MESSAGES = ["<script>alert(1)</script>", "\\x1b[31mred\\x1b[2J", "nul\\x00nul", "]]>&amp;",
            "x" * 32767, "two\\nlines\\r\\n", "\\u202egnirts", "\\x9b31m", "it's \\"quoted\\""]

def test_fails(channel_stub, channel_client):
    channel_client("alice")
    channel_client("<b>&\\x1b[31m\\x00")
    for message in MESSAGES:
        channel.send_message("alice", message)
        channel.send_message("<b>&\\x1b[31m\\x00", message)
    assert_queued(channel_stub, "alice", {"x": 1})
"""


def test_hostile_messages_leave_terminal_and_xml_intact(pytester):
    pytester.makepyfile(HOSTILE)
    result = pytester.runpytest("--junitxml=out.xml", "--color=no")
    result.assert_outcomes(failed=1)

    output = result.stdout.str()
    assert set(re.findall(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e]", output)) == set()
    assert max(map(len, output.splitlines())) < 400
    assert "(32,767 characters)" in output
    text = xml_of(pytester).find(".//failure").text
    assert r"'\x1b[31mred\x1b[2J'" in text
    assert "<script>alert(1)</script>" in text


def test_under_vv_a_failure_shows_everything(pytester):
    pytester.makepyfile("""
        from pytest_channelstub import assert_queued, channel

        def test_fails(channel_stub, channel_client):
            channel_client("alice")
            channel.send_message("alice", "x" * 300 + "!" + "y" * 300)
            assert_queued(channel_stub, "alice", "x" * 300 + "?" + "y" * 300)
    """)
    whole = "x" * 300 + "!" + "y" * 300
    brief = pytester.runpytest().stdout.str()
    assert whole not in brief
    assert "'...xxxxxxxxxxxxxxxxxxxxxxxx!yyyyyyyyyyyyyyyyyyyyyyyy'..." in brief.replace(
        "...'", "'..."
    )
    assert whole in pytester.runpytest("-vv").stdout.str()
    assert whole not in pytester.runpytest().stdout.str()


def test_the_native_diff_of_pytest_is_shown_for_lists_of_messages(pytester):
    pytester.makepyfile("""
        from pytest_channelstub import channel

        def test_stub(channel_stub, channel_client):
            alice = channel_client("alice")
            channel.send_message("alice", "one")
            assert channel_stub.get_channel_messages(alice.token) == ["two"]

        def test_client(channel_client):
            alice = channel_client("alice")
            channel.send_message("alice", "one")
            assert alice.messages == ["two"]
    """)
    result = pytester.runpytest()
    result.assert_outcomes(failed=2)
    assert result.stdout.str().count("At index 0 diff: 'one' != 'two'") == 2


def test_a_token_that_outlives_the_calendar_shows_its_end_in_seconds():
    with ChannelServiceStub(time_func=FakeClock("9999-12-31T23:00:00Z").time) as stub:
        token = channel.create_channel("alice")
    assert repr(stub.timeline[0]) == (
        f"<Event create 9999-12-31T23:00:00Z alice token {token[:6]}...alice, "
        "valid until 253402304401 s since the epoch>"
    )


def test_every_repr_is_one_useful_line(channel_stub, channel_client, channel_clock):
    channel_clock.advance(1.5)
    alice = channel_client("alice")
    channel.send_message("alice", "a\nb")
    assert repr(channel_stub) == (
        "<ChannelServiceStub 1 connected, 4 events, "
        "<FakeClock 2020-01-01T00:00:01.500000+00:00 (+1.5 s)>>"
    )
    assert repr(alice) == "<ChannelClient 'alice', connected, 1 pending, 0 received>"
    assert repr(channel_stub.timeline) == "<Timeline of 4 events>"
    assert repr(channel_stub.timeline[-1]) == (
        r"<Event send 2020-01-01T00:00:01.500Z alice 'a\nb'>"
    )
    assert repr(channel_stub.timeline[0]) == (
        f"<Event create 2020-01-01T00:00:01.500Z alice token {alice.token[:6]}...alice, "
        "valid until 2020-01-01T02:00:02Z>"
    )


def test_a_timeline_directory_of_no_user_is_a_usage_error(pytester):
    result = pytester.runpytest("--channelstub-timeline=~no-such-user/pages")

    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*--channelstub-timeline: ~no-such-user/pages: *"])


def test_a_time_that_is_not_the_stubs_is_named_where_the_stubs_own_stands_still(pytester):
    pytester.makepyfile(
        """
        import time
        import pytest
        from freezegun import freeze_time
        from pytest_channelstub import TokenTimedOutError, channel

        def test_freeze(channel_stub):
            with freeze_time("2024-01-01") as frozen:
                token = channel.create_channel("alice")
                frozen.tick(7300)
                with pytest.raises(TokenTimedOutError):
                    channel_stub.connect_channel(token)

        def test_sleep(channel_stub, channel_client):
            channel_client("alice")
            time.sleep(0)
            assert not channel_stub.is_connected("alice")

        def test_the_clock_has_moved(channel_stub, channel_client):
            channel_client("alice")
            time.sleep(0)
            channel_stub.clock.advance(1)
            assert not channel_stub.is_connected("alice")

        @pytest.mark.channel_stub(clock="system")  # as the remark says
        def test_advice(channel_stub):
            test_freeze(channel_stub)
        """
    )

    result = pytester.runpytest()

    result.assert_outcomes(passed=1, failed=3)
    remarks = [line for line in result.outlines if line.startswith("- ")]
    assert remarks == [
        f"- {name} does not move the stub's clock, which stands at its start: clock.advance(...) "
        "does, and clock='system' follows freezegun"
        for name in ("freeze_time", "sleep")
    ]
