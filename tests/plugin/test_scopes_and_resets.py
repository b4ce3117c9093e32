"""Stubs that outlive a test, and what is reset before each.

CHANNELSTUB_LONG=1 tries twenty orders of the tests that share stubs.
"""

from __future__ import annotations

import os

import pytest

SEEDS = range(20 if os.environ.get("CHANNELSTUB_LONG") else 1)
SCOPES = ("function", "class", "module", "session")

SUITE = """
    seen = []

    class TestFirst:
        def test_one(self, channel_stub, channel_clock):
            assert channel_clock is channel_stub.clock
            seen.append(channel_stub)
            channel_clock.advance(1)

        def test_two(self, channel_stub):
            seen.append(channel_stub)

    class TestSecond:
        def test_three(self, channel_stub):
            seen.append(channel_stub)

    def test_how_many():
        print("STUBS", len({id(stub) for stub in seen}))
"""


@pytest.mark.parametrize(("scope", "stubs"), [*zip(SCOPES, (3, 2, 1, 1), strict=True)])
def test_the_ini_file_sets_the_scope(pytester, scope, stubs):
    pytester.makeini(f"[pytest]\nchannelstub_scope = {scope}\n")
    pytester.makepyfile(SUITE)

    result = pytester.runpytest("-s")

    result.assert_outcomes(passed=4)
    assert f"STUBS {stubs}" in result.stdout.str()


def test_a_session_stub_serves_several_modules_and_a_module_stub_does_not(pytester):
    code = "def test_it(channel_stub): print('SEED', repr(channel_stub.seed))"
    pytester.makepyfile(test_a=code, test_b=code)

    def seeds(scope):
        lines = pytester.runpytest("-s", "-o", f"channelstub_scope={scope}").outlines
        return {line.split("SEED ")[1] for line in lines if "SEED " in line}

    assert len(seeds("session")) == 1
    assert len(seeds("module")) == 2


@pytest.mark.parametrize("name", ["start", "clock", "seed"])
def test_a_marker_for_a_stub_that_is_built_for_the_module_is_an_error(pytester, name):
    value = {"start": "1", "clock": "'fake'", "seed": "1"}[name]
    pytester.makeini("[pytest]\nchannelstub_scope = module\n")
    pytester.makepyfile(
        f"""
        import pytest

        @pytest.mark.channel_stub({name}={value})
        def test_it(channel_stub):
            pass
        """
    )

    result = pytester.runpytest()

    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(
        [
            (
                f"*::test_it: @pytest.mark.channel_stub({name}=...) comes too late: the stub is "
                "built once for the module; mark the module, or use channelstub_scope=function"
            )
        ]
    )


def test_a_marker_of_the_class_counts_for_the_stub_of_the_class(pytester):
    pytester.makeini("[pytest]\nchannelstub_scope = class\n")
    pytester.makepyfile(
        """
        import pytest

        @pytest.mark.channel_stub(start=5)
        class TestIt:
            @pytest.mark.channel_stub(strict="dropped")
            def test_it(self, channel_clock):
                assert channel_clock.start == 5
        """
    )

    pytester.runpytest().assert_outcomes(passed=1)


OUTLIVING = """
    import pytest
    from pytest_channelstub import channel

    @pytest.fixture(scope="module")
    def token(channel_stub):
        token = channel.create_channel("alice")
        channel_stub.connect_channel(token)
        channel_stub.clock.advance(1)
        return token

    {first}
    def test_one(channel_stub, token):
        channel.send_message("alice", "first")

    {second}
    def test_two(channel_stub, token):
        state = (channel_stub.is_connected("alice"), channel_stub.get_channel_messages(token),
                 channel_stub.clock.elapsed)
        print("STATE", state)
"""
STATES = {
    "queues": "(True, [], 1.0)",
    "all": "(False, None, 0.0)",
    "nothing": "(True, ['first'], 1.0)",
}


@pytest.mark.parametrize(("what", "state"), [*STATES.items()])
@pytest.mark.parametrize("place", ["marker", "ini"])
def test_what_is_reset_before_a_test_is_set_by_marker_and_ini(pytester, what, state, place):
    reset = what if place == "ini" else "queues"
    pytester.makeini(f"[pytest]\nchannelstub_scope = session\nchannelstub_reset = {reset}\n")
    marker = f"@pytest.mark.channel_reset({what!r})" if place == "marker" else ""
    pytester.makepyfile(OUTLIVING.format(first="", second=marker))

    result = pytester.runpytest("-s")

    result.assert_outcomes(passed=2)
    assert f"STATE {state}" in result.stdout.str()


def test_unmarked_tests_have_their_queues_emptied(pytester):
    pytester.makeini("[pytest]\nchannelstub_scope = session\n")
    pytester.makepyfile(OUTLIVING.format(first="", second=""))

    result = pytester.runpytest("-s")

    assert f"STATE {STATES['queues']}" in result.stdout.str()


def test_the_first_test_is_reset_like_any_other(pytester):
    pytester.makeini("[pytest]\nchannelstub_scope = session\n")
    pytester.makepyfile(
        """
        import pytest
        from pytest_channelstub import channel

        @pytest.fixture(scope="session")
        def token(channel_stub):
            token = channel.create_channel("alice")
            channel_stub.connect_channel(token)
            channel.send_message("alice", "from the session's fixture")
            return token

        @pytest.mark.parametrize("number", range(2))
        def test_it(channel_stub, token, number):
            assert channel_stub.get_channel_messages(token) == []
        """
    )

    pytester.runpytest().assert_outcomes(passed=2)


def test_a_test_without_fixtures_of_its_own_is_reset_too(pytester):
    pytester.makeini("[pytest]\nchannelstub_scope = session\n")
    pytester.makepyfile(
        """
        import unittest
        import pytest
        from pytest_channelstub import channel
        from pytest_channelstub._service.registry import active_stub

        @pytest.fixture(scope="session", autouse=True)
        def connected(channel_stub):
            channel_stub.connect_channel(channel.create_channel("alice"))

        class TestPlain:
            def test_one(self):
                assert active_stub().pending("alice") == ()
                channel.send_message("alice", "left")

            def test_two(self):
                assert active_stub().pending("alice") == ()
                channel.send_message("alice", "left")

        class UnittestCase(unittest.TestCase):
            def test_three(self):
                self.assertEqual(active_stub().pending("alice"), ())
                channel.send_message("alice", "left")

            def test_four(self):
                self.assertEqual(active_stub().pending("alice"), ())
                channel.send_message("alice", "left")
        """
    )

    pytester.runpytest().assert_outcomes(passed=4)


def test_async_tests_are_reset_too(pytester):
    pytester.makeini(
        "[pytest]\nchannelstub_scope = session\nasyncio_mode = auto\n"
        "asyncio_default_fixture_loop_scope = function\n"
    )
    pytester.makepyfile(
        """
        import asyncio
        import pytest
        from pytest_channelstub import channel

        @pytest.mark.parametrize("number", range(3))
        async def test_it(channel_stub, number):
            token = channel.create_channel("alice")
            channel_stub.connect_channel(token)
            await asyncio.sleep(0)
            assert channel_stub.get_channel_messages(token) == []
            channel.send_message("alice", "left")
        """
    )

    pytester.runpytest("-p", "pytest_asyncio.plugin").assert_outcomes(passed=3)


def test_make_channel_stub_serves_fixtures_of_every_scope(pytester):
    pytester.makepyfile(
        """
        import pytest
        from pytest_channelstub import channel
        from pytest_channelstub._service.registry import active_stub

        @pytest.fixture(scope="session")
        def wide(make_channel_stub):
            with make_channel_stub(start=1, seed="wide") as stub:
                yield stub

        @pytest.fixture
        def narrow(make_channel_stub):
            with make_channel_stub(start=2) as stub:
                yield stub

        def test_one(wide):
            assert active_stub() is wide
            assert wide.clock.start == 1 and wide.seed == "wide"

        def test_two(wide, narrow, channel_stub):
            assert active_stub() is channel_stub
            channel_stub.close()
            assert active_stub() is narrow
            narrow.close()
            assert active_stub() is wide

        def test_three(wide):
            assert active_stub() is wide
        """
    )

    pytester.runpytest().assert_outcomes(passed=3)


def test_a_stub_that_nobody_closes_ends_with_the_session(pytester):
    pytester.makeconftest(
        """
        import pytest
        from pytest_channelstub._service.registry import active_stub

        @pytest.hookimpl(tryfirst=True)
        def pytest_unconfigure(config):
            print("BEFORE", active_stub() is not None)

        @pytest.fixture(scope="session")
        def stub(make_channel_stub):
            return make_channel_stub()
        """
    )
    pytester.makepyfile("def test_it(stub): pass\ndef test_two(stub): pass")

    pytester.runpytest("-s").assert_outcomes(passed=2)

    from pytest_channelstub._service.registry import active_stub  # noqa: PLC0415 (after the run)

    assert active_stub() is None


def test_a_session_fixture_first_built_in_a_marked_test_does_not_inherit_its_settings(pytester):
    pytester.makepyfile(
        """
        import time
        import pytest

        @pytest.fixture(scope="session")
        def built_at():
            return time.time()

        @pytest.fixture(scope="session")
        def wide(make_channel_stub):
            return make_channel_stub()

        @pytest.mark.channel_stub(start="2001-01-01", clock="freeze", seed="one")
        def test_one(channel_stub, built_at, wide):
            assert built_at > 1_700_000_000
            assert wide.clock.start == 1577836800
            assert type(wide.clock).__name__ == "FakeClock"
        """
    )

    pytester.runpytest().assert_outcomes(passed=1)


MIXED_CONFTEST = """
    import pytest
    from pytest_channelstub import channel

    def build(make_channel_stub, scope):
        with make_channel_stub(seed=scope) as stub:
            stub.connect_channel(channel.create_channel("alice"))
            yield stub

    def fixture_of(scope):
        def fixture(make_channel_stub):
            yield from build(make_channel_stub, scope)
        return pytest.fixture(scope=scope, name=f"{scope}_stub")(fixture)

    session_stub, module_stub, class_stub, function_stub = map(
        fixture_of, ("session", "module", "class", "function")
    )
"""
MIXED = """
    import pytest
    from pytest_channelstub import channel

    class Shared:
        @pytest.mark.parametrize("number", range(10))
        @pytest.mark.parametrize("scope", ["session", "module", "class", "function"])
        def test_it(self, request, scope, number):
            stub = request.getfixturevalue(f"{scope}_stub")
            stub.clock.move_to(stub.clock.start)
            stub.connect_channel(channel._create_channel(stub, "alice"))
            assert stub.pending("alice") == ()
            channel.send_message("alice", f"{scope} {number}")
            assert stub.pending("alice") == (f"{scope} {number}",) or scope != "function"

        def test_a_test_that_fails(self, session_stub):
            channel.send_message("alice", "lost with the failure")
            assert session_stub.pending("bob") == ("never",)

    class TestOne(Shared): pass
    class TestTwo(Shared): pass
"""


@pytest.mark.parametrize("seed", SEEDS)
def test_shared_stubs_give_the_same_result_in_any_order(pytester, seed):
    pytester.makeconftest(MIXED_CONFTEST)
    pytester.makepyfile(test_a=MIXED, test_b=MIXED)

    result = pytester.runpytest("-p", "pytest_randomly", "-q", f"--randomly-seed={seed}")

    result.assert_outcomes(passed=160, failed=4)


def test_shared_stubs_give_the_same_result_under_xdist(pytester):
    pytester.makeconftest(MIXED_CONFTEST)
    pytester.makepyfile(test_a=MIXED, test_b=MIXED)

    result = pytester.runpytest("-p", "xdist", "-n", "2", "-q")

    result.assert_outcomes(passed=160, failed=4)


def test_reruns_and_last_failed_start_from_a_reset_stub(pytester):
    pytester.makeini("[pytest]\nchannelstub_scope = session\n")
    pytester.makepyfile(
        """
        from pytest_channelstub import channel

        tries = []

        def test_it(channel_stub):
            token = channel.create_channel("alice")
            channel_stub.connect_channel(token)
            assert channel_stub.get_channel_messages(token) == []
            channel.send_message("alice", "left")
            tries.append(1)
            assert len(tries) == 3
        """
    )

    result = pytester.runpytest("-p", "pytest_rerunfailures", "--reruns", "2")
    result.assert_outcomes(passed=1)
    assert "2 rerun" in result.stdout.str()

    pytester.runpytest().assert_outcomes(failed=1)
    pytester.runpytest("--lf").assert_outcomes(failed=1)


@pytest.mark.parametrize("plugin", ["cacheprovider", "logging", "junitxml", "unittest", "terminal"])
def test_the_plugin_works_without_pytests_optional_parts(pytester, plugin):
    pytester.makepyfile("def test_it(channel_client): assert channel_client('alice').connected")

    result = pytester.runpytest("-p", f"no:{plugin}")

    assert result.ret == 0


def test_a_handler_may_build_and_close_stubs_while_what_outlives_a_test_is_reset(pytester):
    pytester.makeini("[pytest]\nchannelstub_scope = session\nchannelstub_clock = system\n")
    pytester.makepyfile(
        """
        import pytest

        now = [0.0]

        @pytest.fixture(autouse=True, scope="session")
        def time():
            patch = pytest.MonkeyPatch()
            patch.setattr("time.time", lambda: now[0])
            yield
            patch.undo()

        def test_first(channel_stub, make_channel_stub, channel_client):
            other = make_channel_stub()

            def app(environ, start_response):
                other.close()
                make_channel_stub()
                start_response("200 OK", [])
                return []

            channel_client("alice")
            channel_stub.app = app
            now[0] = 5.0

        def test_second(channel_stub):
            assert not channel_stub.is_connected("alice")
        """
    )

    pytester.runpytest("-p", "no:randomly").assert_outcomes(passed=2)


def test_a_test_outside_of_any_class_may_ask_for_strictness_at_class_scope(pytester):
    pytester.makeini("[pytest]\nchannelstub_scope = class\n")
    pytester.makepyfile(
        """
        import pytest

        @pytest.mark.channel_stub(strict="dropped")
        def test_it(channel_stub):
            pass
        """
    )

    pytester.runpytest().assert_outcomes(passed=1)


def test_an_app_that_raises_between_two_tests_fails_neither(pytester):
    pytester.makeini("[pytest]\nchannelstub_scope = session\n")
    pytester.makeconftest(
        """
        import pytest
        from freezegun import freeze_time

        def app(environ, start_response):
            if "disconnected" in environ["PATH_INFO"]:
                raise ZeroDivisionError("of the app")
            start_response("200 OK", [])
            return []

        @pytest.fixture(scope="session")
        def other(make_channel_stub):
            with make_channel_stub() as stub: yield stub

        @pytest.fixture(scope="session")
        def frozen():
            with freeze_time("2020-01-01") as frozen: yield frozen

        @pytest.fixture(scope="session")
        def stub(frozen, make_channel_stub):
            with make_channel_stub(clock="system", app=app) as stub: yield stub
        """
    )
    pytester.makepyfile(
        """
        from pytest_channelstub import channel

        def test_one(other, stub, frozen):
            stub.connect_channel(channel.create_channel("alice"))
            frozen.tick(2.1)

        def test_two(stub, other, tmp_path): pass

        def test_three(stub, other, tmp_path):
            assert len(stub.timeline) == len(other.timeline) == 0
        """
    )

    result = pytester.runpytest()

    result.assert_outcomes(passed=3)
    line = "channelstub: after *::test_one the app raised: ZeroDivisionError: of the app"
    result.stdout.fnmatch_lines([line])


def test_a_timeout_that_an_error_has_left_over_belongs_to_its_own_test(pytester):
    pytester.makepyfile(
        """
        import pytest
        from pytest_channelstub import channel

        def app(environ, start_response):
            if "disconnected" in environ["PATH_INFO"]:
                raise ValueError(environ["wsgi.input"].read())
            start_response("200 OK", [])
            return []

        def test_one(make_channel_stub):
            stub = make_channel_stub(app=app)
            for client_id in "ab":
                stub.connect_channel(channel.create_channel(client_id))
            with pytest.raises(ValueError):
                stub.clock.advance(10)

        def test_two(): pass
        """
    )

    result = pytester.runpytest()

    result.assert_outcomes(passed=2)
    line = "channelstub: after *::test_one the app raised: ValueError: b'from=b'"
    result.stdout.fnmatch_lines([line])


def test_a_stub_that_an_earlier_test_has_left_changes_no_tokens(pytester):
    pytester.makepyfile(
        """
        import pytest
        from pytest_channelstub import channel

        tokens = set()

        @pytest.mark.parametrize("number", [1, 2])
        def test_it(make_channel_stub, number):
            make_channel_stub()
            tokens.add(channel.create_channel("alice"))
            assert len(tokens) == 1
        """
    )

    result = pytester.runpytest()

    result.assert_outcomes(passed=2)


def test_without_a_class_the_scope_class_is_that_of_the_test(pytester):
    pytester.makeini("[pytest]\nchannelstub_scope = class\n")
    pytester.makepyfile(
        """
        import pytest
        from pytest_channelstub import channel

        tokens = set()

        @pytest.mark.channel_stub(start="2030-01-01")
        def test_start(channel_clock):
            assert channel_clock.now.year == 2030

        @pytest.mark.parametrize("number", [1, 2])
        def test_seed(channel_stub, number):
            tokens.add(channel.create_channel("alice"))
            assert len(tokens) == number
        """
    )

    result = pytester.runpytest()

    result.assert_outcomes(passed=3)


def test_a_failure_in_a_story_says_where_its_test_begins(pytester):
    pytester.makeini("[pytest]\nchannelstub_scope = session\nchannelstub_reset = nothing\n")
    pytester.makepyfile(
        """
        from pytest_channelstub import channel

        def test_one(channel_stub):
            channel.send_message("bob", "one")

        def test_two(channel_stub):
            channel.send_message("bob", "two")
            assert channel_stub.is_connected("bob")
        """
    )

    result = pytester.runpytest()

    result.stdout.fnmatch_lines(["*'one'*", "(this test begins here)", "*'two'*"])
