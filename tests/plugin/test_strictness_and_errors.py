"""Messages that a passing test must not leave, and calls that fail for one test."""

from __future__ import annotations

import pytest

from pytest_channelstub import apiproxy_errors

LEFT = """
    import pytest
    from pytest_channelstub import assert_dropped, assert_queued, channel

    pytestmark = pytest.mark.channel_stub(strict="dropped unread")

    def test_leaves(channel_stub, channel_clock, channel_client):
        channel_clock.advance(1.5)
        channel.send_message("alice", "early")
        channel_clock.advance(0.5)
        channel_client("alice")
        channel.send_message("alice", "late")

    def test_names_them(channel_stub, channel_client):
        channel.send_message("alice", "early")
        alice = channel_client("alice")
        channel.send_message("alice", "late")
        assert_dropped(channel_stub, "alice", "early")
        assert_queued(channel_stub, "alice", "late")

    def test_reads_them(channel_client):
        alice = channel_client("alice")
        channel.send_message("alice", "late")
        assert alice.receive() == "late"

    def test_that_fails_anyway(channel_stub):
        channel.send_message("alice", "early")
        assert 1 == 2

    def test_that_raises(channel_stub):
        channel.send_message("alice", "early")
        raise RuntimeError("on purpose")

    @pytest.mark.xfail(strict=True)
    def test_expected_to_fail(channel_stub):
        channel.send_message("alice", "early")
        assert 1 == 2

    def test_skipped(channel_stub):
        channel.send_message("alice", "early")
        pytest.skip("not now")
"""


def test_only_a_test_that_passed_fails_by_strictness_and_once(pytester):
    pytester.makepyfile(LEFT)

    result = pytester.runpytest("-rfE", "--tb=short")

    result.assert_outcomes(passed=2, failed=3, xfailed=1, skipped=1)
    result.stdout.fnmatch_lines(
        [
            (
                "the test passed, but 'early' to alice was dropped at +1.5 s, before alice "
                "connected (+2.0 s); sent by test_leaves() at *.py:8"
            ),
            "  'late' to alice was sent at +2.0 s and is pending; sent by test_leaves() at *.py:11",
            (
                'With strict="dropped,unread" a test reads each message, or names it in '
                "assert_queued, assert_sent or assert_dropped. To allow any: "
                '@pytest.mark.channel_stub(strict="")'
            ),
        ]
    )


def test_what_a_test_takes_out_of_the_live_list_is_not_left_behind(pytester):
    pytester.makepyfile(
        """
        import pytest
        from pytest_channelstub import channel

        @pytest.mark.channel_stub(strict="unread")
        def test_it(channel_stub, channel_client):
            alice = channel_client("alice")
            channel.send_message("alice", "one")
            channel.send_message("alice", "two")
            live = channel_stub.get_channel_messages(alice.token)
            assert live.pop(0) == "one"
            live.append({"of": "its own"})
        """
    )

    result = pytester.runpytest_inprocess()

    result.stdout.fnmatch_lines(["the test passed, but 'two' to alice was sent at *"])
    result.stdout.no_fnmatch_line("*'one' to alice*")


ENDS = {
    "timeout": "channel_clock.advance(2)",
    "close": "alice.close()",
    "disconnect": "channel_stub.disconnect('alice')",
    "clear": "channel_stub.clear_channel_messages(alice.token)",
    "end of the token": "channel_clock.advance(hours=3)",
}


@pytest.mark.parametrize("end", ENDS.values(), ids=ENDS)
def test_a_message_that_is_lost_was_not_read(pytester, end):
    pytester.makepyfile(
        f"""
        from pytest_channelstub import assert_sent, channel

        def test_leaves(channel_stub, channel_clock, channel_client):
            alice = channel_client("alice", keep_alive={"hours" in end})
            channel.send_message("alice", "lost")
            {end}

        def test_names_it(channel_stub, channel_clock, channel_client):
            test_leaves(channel_stub, channel_clock, channel_client)
            assert_sent(channel_stub, "alice", "lost")
        """
    )

    result = pytester.runpytest("--channelstub-strict=unread")

    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(["the test passed, but 'lost' to alice was sent *"])


def test_at_most_twenty_messages_are_listed(pytester):
    pytester.makepyfile(
        """
        from pytest_channelstub import channel

        def test_it(channel_stub):
            for number in range(1030):
                channel.send_message("alice", f"message {number}")
        """
    )

    result = pytester.runpytest("--channelstub-strict=dropped")

    result.assert_outcomes(failed=1)
    assert len([line for line in result.outlines if line.startswith("  'message")]) == 19
    result.stdout.fnmatch_lines(["the test passed, but 'message 0' to *", "  and 1,010 more"])


def test_a_stub_that_outlives_the_test_counts_this_tests_messages_alone(pytester):
    pytester.makeini("[pytest]\nchannelstub_scope = session\nchannelstub_reset = nothing\n")
    pytester.makepyfile(
        """
        import pytest
        from pytest_channelstub import channel

        @pytest.mark.channel_stub(strict="")
        def test_one(channel_stub):
            channel.send_message("alice", "early")

        def test_two(channel_stub):
            pass
        """
    )

    pytester.runpytest("--channelstub-strict=dropped").assert_outcomes(passed=2)


def test_strictness_reaches_unittest_and_async_tests(pytester):
    pytester.makeini("[pytest]\nasyncio_default_fixture_loop_scope = function\n")
    pytester.makepyfile(
        """
        import unittest
        import pytest
        from pytest_channelstub import channel

        class OldTest(unittest.TestCase):
            @pytest.fixture(autouse=True)
            def _stub(self, channel_stub):
                self.stub = channel_stub

            def test_it(self):
                channel.send_message("alice", "early")

        @pytest.mark.asyncio
        async def test_async(channel_stub):
            channel.send_message("alice", "early")
        """
    )

    result = pytester.runpytest("--channelstub-strict=dropped", "-p", "pytest_asyncio.plugin")

    result.assert_outcomes(failed=2)


def test_a_test_with_a_subtest_that_failed_is_not_said_to_have_passed(pytester):
    pytester.makepyfile(
        """
        import unittest
        import pytest
        from pytest_channelstub import channel

        @pytest.mark.usefixtures("channel_stub")
        class OldTest(unittest.TestCase):
            def test_it(self):
                channel.send_message("alice", "early")
                with self.subTest("one"):
                    self.assertEqual(1, 2)
                with self.subTest("two"):
                    pass

        def test_after(channel_stub):
            channel.send_message("alice", "lost")
        """
    )

    result = pytester.runpytest("--channelstub-strict=dropped", "--channelstub-timeline=out")

    result.stdout.fnmatch_lines(["*assert*1*2*"])
    assert result.stdout.str().count("\nthe test passed, but 'lost' to alice was dropped at ") == 1
    index = (pytester.path / "out/index.html").read_text("utf-8")
    assert index.count('<span class="pill failed">') == 2


ERRORS = """
    import pytest
    from pytest_channelstub import apiproxy_errors, channel

    @pytest.mark.channel_error(apiproxy_errors.OverQuotaError("too much"))
    def test_every_call_fails(channel_stub):
        with pytest.raises(apiproxy_errors.OverQuotaError, match="too much"):
            channel.create_channel("alice")
        with pytest.raises(apiproxy_errors.OverQuotaError, match="too much"):
            channel.send_message("alice", "hello")

    @pytest.mark.channel_error(3, call="SendChannelMessage")
    @pytest.mark.channel_error(2, call="CreateChannel")
    def test_several_add_up(channel_stub):
        with pytest.raises(channel.InvalidChannelClientIdError):
            channel.create_channel("alice")
        with pytest.raises(channel.InvalidMessageError):
            channel.send_message("alice", "hello")

    def test_none_is_left(channel_stub):
        channel.create_channel("alice")

    @pytest.mark.channel_error(1, rate=0.5)
    def test_by_chance(channel_stub):
        outcomes = ""
        for _ in range(60):
            try:
                channel.send_message("alice", "hello")
                outcomes += "."
            except apiproxy_errors.ApplicationError as error:
                assert error.application_error == 1
                outcomes += "F"
        assert 10 < outcomes.count("F") < 50
        print("CHANCE", outcomes)
"""


def test_calls_fail_for_one_test_and_not_for_the_next(pytester):
    pytester.makepyfile(ERRORS)

    pytester.runpytest().assert_outcomes(passed=4)


def test_on_a_stub_that_lives_on_the_errors_are_undone(pytester):
    pytester.makeini("[pytest]\nchannelstub_scope = session\n")
    pytester.makepyfile(ERRORS)

    pytester.runpytest().assert_outcomes(passed=4)


def test_a_chance_below_one_falls_alike_at_every_run(pytester):
    pytester.makepyfile(ERRORS)

    def chances():
        lines = pytester.runpytest("-s", "-k", "by_chance").outlines
        return next(line.split("CHANCE ")[1] for line in lines if "CHANCE" in line)

    assert chances() == chances()


def test_a_stub_that_the_test_itself_has_closed_is_asked_too(pytester):
    pytester.makepyfile(
        """
        import pytest
        from pytest_channelstub import channel

        pytestmark = pytest.mark.channel_stub(strict="dropped")

        def test_it(make_channel_stub):
            with make_channel_stub():
                channel.send_message("alice", "lost")

        def test_next(make_channel_stub):
            with make_channel_stub():
                pass
        """
    )

    result = pytester.runpytest()

    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(["*'lost' to alice was dropped at +0.0 s: *"])


def test_strictness_is_read_from_whatever_can_be_gone_through(pytester):
    pytester.makepyfile(
        """
        import pytest
        from pytest_channelstub import channel

        @pytest.mark.channel_stub(strict=iter(["dropped"]))
        def test_it(channel_stub):
            channel.send_message("alice", "lost")
        """
    )

    pytester.runpytest().assert_outcomes(failed=1)


CLASSES = {
    "function": """
@pytest.mark.channel_error(OverQuota)
def test_it(): pass
""",
    "class": """
@pytest.mark.channel_error(OverQuota)
class TestIt:
    def test_it(self): pass
""",
    "method": """
class TestIt:
    @pytest.mark.channel_error(OverQuota)
    def test_it(self): pass
""",
    "below other marks": """
@pytest.mark.skip
@pytest.mark.parametrize("n", [1])
@pytest.mark.channel_error(OverQuota)
def test_it(n): pass
""",
    "twice": """
@pytest.mark.channel_error(OverQuota)
@pytest.mark.channel_error(OverQuota)
def test_it(): pass
""",
}


@pytest.fixture
def _unmarked_errors():
    """Take the marks off the classes again, as a process has them once for all runs."""
    yield
    for name in apiproxy_errors.__all__:
        kind = getattr(apiproxy_errors, name)
        if "pytestmark" in vars(kind):
            del kind.pytestmark


IMPORTS = (
    "import pytest\nfrom pytest_channelstub.apiproxy_errors import OverQuotaError as OverQuota\n"
)


@pytest.mark.usefixtures("_unmarked_errors")
@pytest.mark.parametrize("body", CLASSES.values(), ids=CLASSES)
def test_a_class_where_an_instance_is_wanted_is_an_error_and_no_test_that_is_gone(pytester, body):
    path = pytester.makepyfile(IMPORTS + body)

    # Otherwise pytest takes 0.15 s to show where the error has ended the run.
    result = pytester.runpytest("--continue-on-collection-errors")

    result.assert_outcomes(errors=1)
    error = (
        "@pytest.mark.channel_error(OverQuotaError): OverQuotaError is a class: pass an instance, "
        "OverQuotaError()"
    )
    lines = [line for line in result.outlines if error in line and line.startswith(path.name)]
    assert len(lines) == 1, result.outlines


@pytest.mark.usefixtures("_unmarked_errors")
def test_each_test_whose_marker_was_given_a_class_is_an_error(pytester):
    path = pytester.makepyfile(
        """
        import pytest
        from pytest_channelstub import apiproxy_errors

        class TestOne:
            @pytest.mark.channel_error(apiproxy_errors.ApplicationError)
            def test_it(self): pass

        class TestTwo:
            @pytest.mark.channel_error(apiproxy_errors.ApplicationError)
            def test_it(self): pass

        @pytest.mark.channel_error(error=apiproxy_errors.ApplicationError)
        def test_keyword(channel_stub): pass

        def test_fine(): pass
        """
    )

    result = pytester.runpytest("--continue-on-collection-errors")

    result.assert_outcomes(errors=3, passed=1)
    error = "ApplicationError is a class: pass an instance, ApplicationError(code)"
    for place in ("TestOne::test_it", "TestTwo::test_it", "test_keyword"):
        result.stdout.fnmatch_lines(
            [f"{path.name}::{place}: @pytest.mark.channel_error(*: {error}"]
        )


def test_exceptions_and_markers_with_a_tests_name_are_left_alone(pytester):
    pytester.makepyfile(
        """
        import pytest
        from pytest_channelstub import apiproxy_errors

        class Mine(Exception):
            pytestmark = pytest.mark.channel_error(3)

        class Marked(Exception):
            pass

        pytest.mark.channel_error(Marked)
        test_error = apiproxy_errors.OverQuotaError(print)
        test_bare = Marked()
        test_with_text = Marked("too much")
        test_mine = Mine(print)
        bare_mark = pytest.mark.skip
        mark = pytest.mark.skipif(True, reason="no")

        def test_it(): pass
        """
    )

    pytester.runpytest().assert_outcomes(passed=1)


def test_a_class_that_is_not_an_error_of_a_call_is_refused_with_what_is(pytester):
    pytester.makepyfile(
        """
        import pytest

        @pytest.mark.channel_error(ValueError, call="CreateChannel")
        def test_it(channel_stub): pass
        """
    )

    result = pytester.runpytest()

    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*<class 'ValueError'> is not allowed here: pass an apiproxy_*"])


def test_strictness_sees_the_stubs_of_a_test_that_builds_many(pytester):
    pytester.makepyfile(
        """
        import pytest
        from pytest_channelstub import channel

        @pytest.mark.channel_stub(strict="dropped")
        @pytest.mark.parametrize("left_by", [2, None])
        def test_it(make_channel_stub, left_by):
            for number in range(12):
                with make_channel_stub():
                    if number == left_by:
                        channel.send_message("bob", "left")
        """
    )

    result = pytester.runpytest()

    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(["the test passed, but 'left' to bob was dropped at +0.0 s: *"])


def test_true_is_no_code_of_an_error(pytester):
    pytester.makepyfile(
        """
        import pytest

        @pytest.mark.channel_error(True)
        def test_it(channel_stub): pass
        """
    )

    result = pytester.runpytest()

    result.stdout.fnmatch_lines(["*channel_error(...): True is not allowed here: pass an *"])
