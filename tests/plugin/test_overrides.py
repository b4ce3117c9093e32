"""Fixtures of the plugin that a test suite replaces, and markers that a fixture adds."""

from __future__ import annotations

import pytest

APPS_CONFTEST = """
    import pytest
    from pytest_channelstub import channel

    heard = []

    def app_named(name):
        def app(environ, start_response):
            heard.append(name)
            start_response("200 OK", [])
            return []
        return app

    @pytest.fixture(scope="session")
    def channel_app():
        return app_named("suite")

    @pytest.fixture
    def connect(channel_stub):
        heard.clear()
        channel_stub.connect_channel(channel.create_channel("alice"))
        channel_stub.disconnect("alice")
        return {*heard}
"""
SUITE_APP = """
    def test_it(connect):
        assert connect == {"suite"}
"""
NEARER_APP = """
    import pytest
    from conftest import app_named

    @pytest.fixture(scope="session")
    def channel_app():
        return app_named("module")

    @pytest.mark.parametrize("n", range(2))
    def test_it(connect, n):
        assert connect == {"module"}
"""


@pytest.mark.parametrize("scope", ["function", "module", "session"])
def test_an_app_nearer_to_the_test_is_used_for_that_test(pytester, scope):
    pytester.makeini(f"[pytest]\nchannelstub_scope = {scope}\n")
    pytester.makeconftest(APPS_CONFTEST)
    pytester.makepyfile(test_a=SUITE_APP, test_b=NEARER_APP, test_c=SUITE_APP)

    pytester.runpytest().assert_outcomes(passed=4)


def test_a_shared_server_serves_the_app_nearest_to_the_test(pytester):
    pytester.makeini("[pytest]\nchannelstub_scope = session\n")
    pytester.makepyfile(
        test_one="""
        import urllib.request
        import pytest

        def get(server):
            return urllib.request.urlopen(server.url_for("/"), timeout=10).read()

        def app_named(name):
            def app(environ, start_response):
                start_response("200 OK", [])
                return [name]
            return app

        @pytest.fixture(scope="session")
        def channel_app():
            return app_named(b"one")

        def test_it(channel_server):
            assert get(channel_server) == b"one"
        """,
        test_two="""
        import pytest
        from test_one import app_named, get

        @pytest.fixture(scope="session")
        def channel_app():
            return app_named(b"two")

        def test_it(channel_server):
            assert get(channel_server) == b"two"
        """,
    )

    pytester.runpytest().assert_outcomes(passed=2)


@pytest.mark.parametrize("scope", ["function", "class", "module", "session"])
def test_an_overridden_stub_holds_at_every_scope(pytester, scope):
    pytester.makeini(f"[pytest]\nchannelstub_scope = {scope}\n")
    pytester.makepyfile(
        f"""
        import pytest
        from pytest_channelstub import channel

        @pytest.fixture(scope={scope!r})
        def channel_stub(make_channel_stub):
            with make_channel_stub(start=5) as stub:
                yield stub

        def test_it(channel_stub, channel_clock, channel_client, channel_server):
            assert channel_clock is channel_stub.clock
            assert channel_clock.start == 5
            token = channel_client("alice").token
            assert channel_stub.is_connected("alice")
            assert channel_server.url
        """
    )

    pytester.runpytest().assert_outcomes(passed=1)


def test_the_clock_of_another_stub_is_an_error(pytester):
    pytester.makeini("[pytest]\nchannelstub_scope = session\n")
    pytester.makepyfile(
        test_one="def test_it(channel_stub, channel_clock): pass",
        test_two="""
        import pytest

        @pytest.fixture(scope="session")
        def channel_stub(make_channel_stub):
            return make_channel_stub()

        def test_it(channel_stub, channel_clock): pass
        """,
    )

    result = pytester.runpytest()

    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(["test_two.py::test_it: channel_clock belongs to another stub, *"])


def test_a_marker_that_a_fixture_adds_counts_from_then_on(pytester):
    pytester.makepyfile(
        """
        import pytest
        from pytest_channelstub import apiproxy_errors, channel

        @pytest.fixture
        def started(request):
            request.applymarker(pytest.mark.channel_stub(start=5))

        def test_start(started, channel_clock):
            assert channel_clock.start == 5

        @pytest.fixture
        def failing(request, channel_stub):
            channel.create_channel("alice")
            request.applymarker(pytest.mark.channel_error(3))

        def test_error(failing):
            with pytest.raises(channel.InvalidMessageError):
                channel.send_message("alice", "hello")

        def test_strict(channel_stub, request):
            channel.send_message("alice", "lost")
            request.applymarker(pytest.mark.channel_stub(strict="dropped"))
        """
    )

    result = pytester.runpytest()

    result.assert_outcomes(passed=2, failed=1)
    result.stdout.fnmatch_lines(["the test passed, but 'lost' to alice was dropped at *"])


@pytest.mark.parametrize("marker", ["channel_stub(start=5)", "channel_reset('all')"])
def test_a_marker_that_a_fixture_adds_too_late_is_an_error(pytester, marker):
    pytester.makepyfile(
        f"""
        import pytest

        @pytest.fixture
        def late(request, channel_stub):
            request.applymarker(pytest.mark.{marker})

        def test_it(late): pass
        """
    )

    result = pytester.runpytest()

    result.assert_outcomes(failed=1)
    kind = marker.partition("(")[0]
    text = f"*::test_it: a fixture has added @pytest.mark.{kind}(*...) too late: the stub is *"
    result.stdout.fnmatch_lines([text])


def test_a_marker_on_a_test_without_a_stub_is_warned_of(pytester):
    pytester.makepyfile(
        """
        import pytest

        @pytest.mark.channel_stub(strict="dropped")
        def test_it(): pass

        @pytest.mark.channel_error(3)
        def test_with_a_stub(channel_stub): pass

        @pytest.mark.channel_reset("all")
        class TestClass:
            def test_it(self): pass
        """
    )

    result = pytester.runpytest("-W", "default")

    result.assert_outcomes(passed=3, warnings=1)
    result.stdout.fnmatch_lines(
        ["*PytestWarning: *::test_it: @pytest.mark.channel_stub does nothing, as the test has no *"]
    )


def test_a_marker_that_the_tests_stubs_do_not_heed_gives_a_warning(pytester):
    pytester.makepyfile(
        """
        import pytest

        @pytest.mark.channel_stub(clock="freeze", strict="")
        def test_an_own_stub(make_channel_stub):
            with make_channel_stub(): pass

        @pytest.mark.channel_reset("nothing")
        class TestStory:
            def test_it(self, channel_stub): pass

        @pytest.mark.channel_stub(start=0, seed=7)
        @pytest.mark.channel_reset("all")
        def test_both_stubs(channel_stub, make_channel_stub):
            with make_channel_stub(): pass
        """
    )

    result = pytester.runpytest("-W", "default")

    result.assert_outcomes(passed=3, warnings=2)
    result.stdout.fnmatch_lines_random(
        [
            "*.channel_stub(clock=...) does nothing, as the test has no channel_stub: pass clock *",
            '*.channel_reset("nothing") does nothing, as each test has a stub of its own: set *',
        ]
    )


APPS = """
    import urllib.request
    import pytest

    def answer(text):
        def app(environ, start_response):
            start_response("200 OK", [])
            return [text]
        return app

    def ask(server):
        with urllib.request.urlopen(server.url, timeout=10) as answer:
            return answer.read()
"""


def test_a_server_of_the_session_serves_the_app_of_each_module(pytester):
    pytester.makeini("[pytest]\nchannelstub_scope = session\n")
    pytester.makeconftest(
        APPS
        + """
    @pytest.fixture(scope="session")
    def channel_app(): return answer(b"outer")
        """
    )
    pytester.makepyfile(
        test_0="def test_0(channel_client): channel_client('zero')",
        test_1="""
        import pytest
        from conftest import answer, ask

        @pytest.fixture(scope="session")
        def channel_app(): return answer(b"inner")

        def test_1(channel_server): assert ask(channel_server) == b"inner"
        """,
        test_2="""
        from conftest import ask

        def test_2(channel_server): assert ask(channel_server) == b"outer"
        """,
    )

    result = pytester.runpytest()

    result.assert_outcomes(passed=3)


def test_a_server_of_another_stub_is_an_error(pytester):
    pytester.makeini("[pytest]\nchannelstub_scope = session\n")
    pytester.makepyfile(
        test_1="def test_1(channel_server): pass",
        test_2="""
        import pytest

        @pytest.fixture(scope="session")
        def channel_stub(make_channel_stub):
            with make_channel_stub() as stub: yield stub

        def test_2(channel_stub, channel_server): pass

        def test_3(channel_stub): pass
        """,
    )

    result = pytester.runpytest()

    result.assert_outcomes(passed=2, failed=1)
    result.stdout.fnmatch_lines(["test_2.py::test_2: channel_server belongs to another stub, *"])


def test_the_clock_of_a_stub_that_a_wider_fixture_overrides_is_an_error(pytester):
    pytester.makeini("[pytest]\nchannelstub_scope = module\n")
    pytester.makepyfile(
        """
        import pytest

        @pytest.fixture(scope="module")
        def channel_stub(make_channel_stub):
            with make_channel_stub() as stub: yield stub

        def test_it(channel_clock): pass

        class TestIt:
            @pytest.fixture(scope="module")
            def channel_stub(self, make_channel_stub):
                with make_channel_stub() as stub: yield stub

            def test_it(self, channel_stub, channel_clock): pass
        """
    )

    result = pytester.runpytest()

    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(["*::test_it: channel_clock belongs to another stub, *"])
