"""Every cell of the table of options: by marker, command line and ini file."""

from __future__ import annotations

import pytest

START = "test_start"
BODIES = {
    "start": "def test_it(channel_clock): print('GOT', channel_clock.start)",
    "clock": "def test_it(channel_clock): print('GOT', type(channel_clock).__name__)",
    "seed": "def test_it(channel_stub): print('GOT', channel_stub.seed)",
}


def got(pytester, name, *, marker="", ini="", args=()):
    """Run one test that prints what it got of an option, and give that."""
    if ini:
        pytester.makeini(f"[pytest]\nchannelstub_{name} = {ini}\n")
    pytester.makepyfile(f"import datetime, pytest\n{marker}\n{BODIES[name]}\n")
    result = pytester.runpytest("-s", *args)
    result.assert_outcomes(passed=1)
    return next(
        line.split("GOT ", 1)[1].split()[0] for line in result.outlines if "GOT " in line
    ).rstrip(".")


@pytest.mark.parametrize(
    ("marker", "expected"),
    [
        ("'2021-06-01T12:00:00Z'", 1622548800.0),
        ("'2021-06-01'", 1622505600.0),
        ("1300000000.75", 1300000000.75),
        ("datetime.datetime(2021, 6, 1)", 1622505600.0),
        ("datetime.datetime(2021, 6, 1, tzinfo=datetime.timezone.utc)", 1622505600.0),
    ],
)
def test_a_marker_sets_the_start_in_every_form(pytester, marker, expected):
    marker = f"@pytest.mark.channel_stub(start={marker})"

    assert float(got(pytester, "start", marker=marker)) == expected


@pytest.mark.parametrize("ini", ["2021-06-01T12:00:00Z", "1622548800", "1622548800.0"])
def test_the_ini_file_sets_the_start(pytester, ini):
    assert float(got(pytester, "start", ini=ini)) == 1622548800.0


def test_the_start_is_2020_by_default(pytester):
    assert float(got(pytester, "start")) == 1577836800.0


def test_a_markers_start_beats_the_ini_files(pytester):
    marker = "@pytest.mark.channel_stub(start=5)"

    assert float(got(pytester, "start", marker=marker, ini="7")) == 5.0


CLOCKS = {"fake": "FakeClock", "freeze": "FrozenClock", "system": "SystemClock"}


@pytest.mark.parametrize(("clock", "expected"), [*CLOCKS.items()])
def test_the_clock_is_set_by_marker_command_line_and_ini(pytester, clock, expected):
    marker = f"@pytest.mark.channel_stub(clock={clock!r})"

    assert got(pytester, "clock", marker=marker) == expected
    assert got(pytester, "clock", args=[f"--channelstub-clock={clock}"]) == expected
    assert got(pytester, "clock", ini=clock) == expected


def test_the_clock_is_fake_by_default(pytester):
    assert got(pytester, "clock") == "FakeClock"


def test_the_marker_beats_the_command_line_which_beats_the_ini_file(pytester):
    line = ["--channelstub-clock=freeze"]
    marker = "@pytest.mark.channel_stub(clock='fake')"

    assert got(pytester, "clock", args=line, ini="system") == "FrozenClock"
    assert got(pytester, "clock", args=line, ini="system", marker=marker) == "FakeClock"


@pytest.mark.parametrize("seed", ["7", "'carrots'"])
def test_a_marker_sets_the_seed_to_a_number_or_a_string(pytester, seed):
    marker = f"@pytest.mark.channel_stub(seed={seed})"

    assert got(pytester, "seed", marker=marker) == seed.strip("'")


def test_the_ini_file_sets_the_seed(pytester):
    assert got(pytester, "seed", ini="carrots") == "carrots"


def test_the_seed_is_derived_from_the_tests_node_id_by_default(pytester):
    assert got(pytester, "seed").endswith("::test_it")


def test_a_token_is_the_same_at_every_run_and_differs_between_tests(pytester):
    pytester.makepyfile(
        """
        from pytest_channelstub import channel

        def test_one(channel_stub):
            print("GOT", channel.create_channel("alice"))

        def test_two(channel_stub):
            print("GOT", channel.create_channel("alice"))
        """
    )

    def tokens():
        lines = pytester.runpytest("-s").outlines
        return [line.split("GOT ")[1] for line in lines if "GOT " in line]

    first = tokens()
    assert first == tokens()
    assert len({*first}) == 2


STRICT = """
    import pytest
    from pytest_channelstub import channel

    {marker}
    def test_it(channel_stub, channel_client):
        channel.send_message("alice", "early")
        channel_client("alice")
        channel.send_message("alice", "late")
"""


@pytest.mark.parametrize(
    ("what", "named", "not_named"),
    [
        ("dropped", ["early"], ["late"]),
        ("unread", ["late"], ["early"]),
        ("dropped unread", ["early", "late"], []),
        ("dropped,unread", ["early", "late"], []),
    ],
)
@pytest.mark.parametrize("place", ["marker", "command line", "ini"])
def test_strictness_is_set_by_marker_command_line_and_ini(pytester, what, named, not_named, place):
    marker = f"@pytest.mark.channel_stub(strict={what!r})" if place == "marker" else ""
    args = [f"--channelstub-strict={what}"] if place == "command line" else []
    if place == "ini":
        pytester.makeini(f"[pytest]\nchannelstub_strict = {what}\n")
    pytester.makepyfile(STRICT.format(marker=marker))

    result = pytester.runpytest(*args, "--tb=short")

    result.assert_outcomes(failed=1)
    complaint = result.stdout.str().partition("With strict=")[0]
    for message in named:
        assert f"'{message}' to alice" in complaint
    for message in not_named:
        assert f"'{message}' to alice" not in complaint


@pytest.mark.parametrize("strict", ["('dropped', 'unread')", "{'dropped', 'unread'}"])
def test_a_marker_takes_several_strictnesses_as_a_collection(pytester, strict):
    pytester.makepyfile(STRICT.format(marker=f"@pytest.mark.channel_stub(strict={strict})"))

    pytester.runpytest().assert_outcomes(failed=1)


@pytest.mark.parametrize("strict", ["''", "()"])
def test_a_marker_lifts_the_strictness_of_the_run(pytester, strict):
    pytester.makepyfile(STRICT.format(marker=f"@pytest.mark.channel_stub(strict={strict})"))

    pytester.runpytest("--channelstub-strict=dropped,unread").assert_outcomes(passed=1)


def test_the_marker_nearest_the_test_wins_keyword_by_keyword(pytester):
    pytester.makepyfile(
        """
        import pytest

        pytestmark = pytest.mark.channel_stub(start=1, seed="module", clock="fake")

        @pytest.mark.channel_stub(seed="class", clock="freeze")
        class TestIt:
            @pytest.mark.channel_stub(clock="system")
            def test_it(self, channel_stub, channel_clock):
                assert type(channel_clock).__name__ == "SystemClock"
                assert channel_stub.seed == "class"

            @pytest.mark.channel_stub(clock="fake")
            def test_start(self, channel_clock):
                assert channel_clock.start == 1
        """
    )

    pytester.runpytest().assert_outcomes(passed=2)


def test_a_start_is_refused_where_the_clock_of_a_marker_or_the_run_has_none(pytester):
    pytester.makeini("[pytest]\nchannelstub_start = 7\n")
    path = pytester.makepyfile(
        """
        import pytest

        @pytest.mark.channel_stub(clock="system")
        class TestSystem:
            def test_the_inis_start_is_dropped(self, channel_clock):
                assert channel_clock.start > 7

            @pytest.mark.channel_stub(start=5)
            def test_nearer(self, channel_clock): pass

            @pytest.mark.channel_stub(start=5, clock="fake")
            def test_fake(self, channel_clock):
                assert channel_clock.start == 5

        @pytest.mark.channel_stub(start=5)
        class TestStart:
            @pytest.mark.channel_stub(clock="system")
            def test_a_start_further_out_is_dropped(self, channel_clock):
                assert channel_clock.start > 5

            def test_the_runs(self, channel_clock):
                assert channel_clock.start == 5
        """
    )
    error = "@pytest.mark.channel_stub(start=...): start has no effect with clock='system', which *"

    result = pytester.runpytest()
    result.assert_outcomes(passed=4, errors=1)
    result.stdout.fnmatch_lines([f"{path.name}::TestSystem::test_nearer: {error}"])

    result = pytester.runpytest("--channelstub-clock=system")
    result.assert_outcomes(passed=3, errors=2)
    result.stdout.fnmatch_lines([f"{path.name}::TestStart::test_the_runs: {error}"])


BAD_MARKERS = [
    (
        "channel_stub(strat=1)",
        "unexpected keyword argument 'strat'; it takes start, clock, seed, strict, presence",
    ),
    (
        "channel_stub(1)",
        "too many positional arguments; it takes start, clock, seed, strict, presence",
    ),
    ("channel_stub(clock='froze')", "'froze' is not allowed here: pass one of 'fake', 'freeze', "),
    ("channel_stub(clock=1)", "1 is not allowed here: pass one of 'fake', 'freeze', 'system'"),
    ("channel_stub(clock='system', start=1)", "start has no effect with clock='system', which "),
    ("channel_stub(start='soon')", "'soon' is not a time: pass a datetime, an ISO 8601 string"),
    ("channel_stub(start=None)", "None, of type NoneType, is not a time: pass a datetime"),
    ("channel_stub(seed=1.5)", "1.5 is not allowed here: pass a whole number or a string"),
    ("channel_stub(strict='lost')", "'lost' is not allowed here: pass 'dropped', 'unread' or bo"),
    ("channel_stub(strict=3)", "3 is not allowed here: pass 'dropped', 'unread' or both"),
    ("channel_stub(presence='no')", "'no' is not allowed here: pass True or False"),
    ("channel_reset()", "missing a required argument: 'what'; it takes what"),
    ("channel_reset('some')", "'some' is not allowed here: pass one of 'queues', 'all', 'nothing'"),
    ("channel_error()", "missing a required argument: 'error'; it takes error, call, rate"),
    ("channel_error('no')", "'no' is not allowed here: pass an apiproxy_errors.Error, or a code"),
    ("channel_error(6)", "6 is not allowed here: pass an apiproxy_errors.Error, or a code of"),
    ("channel_error(3, call='Send')", "'Send' is not allowed here: pass call='CreateChannel', "),
    ("channel_error(3, rate=2)", "2 is not allowed here: pass rate= a number from 0 to 1"),
    ("channel_error(3, rate='x')", "'x' is not allowed here: pass rate= a number from 0 to 1"),
]


def test_a_bad_marker_is_one_line_that_names_the_test_and_the_choices(pytester):
    tests = [
        f"@pytest.mark.{marker}\ndef test_{number}(channel_stub): pass\n"
        for number, (marker, _) in enumerate(BAD_MARKERS)
    ]
    path = pytester.makepyfile("import pytest\n" + "\n".join(tests))

    result = pytester.runpytest("-o", "addopts=")

    result.assert_outcomes(errors=len(BAD_MARKERS))
    for number, (marker, error) in enumerate(BAD_MARKERS):
        start = f"{path.name}::test_{number}: @pytest.mark.{marker.split('(')[0]}"
        lines = [line for line in result.outlines if line.startswith(start)]
        assert len(lines) == 1, result.outlines
        assert error in lines[0]
    assert not any("plugin.py" in line or "options.py" in line for line in result.outlines)


BAD_VALUES = [
    ("start", "soon", "'soon' is not a time: pass a datetime, an ISO 8601 string"),
    ("clock", "frozen", "'frozen' is not allowed here: pass one of 'fake', 'freeze', 'system'"),
    ("strict", "lost", "['lost'] is not allowed here: pass 'dropped', 'unread' or both, as "),
    ("scope", "test", "'test' is not allowed here: pass one of 'function', 'class', 'module', "),
    ("reset", "some", "'some' is not allowed here: pass one of 'queues', 'all', 'nothing'"),
    ("appengine", "yes", "'yes' is not allowed here: pass one of 'auto', 'always', 'never'"),
]


@pytest.mark.parametrize(("name", "value", "error"), BAD_VALUES)
def test_a_bad_ini_value_is_a_usage_error_before_collection(pytester, name, value, error):
    pytester.makeini(f"[pytest]\nchannelstub_{name} = {value}\n")
    pytester.makepyfile("raise RuntimeError('collected')")

    result = pytester.runpytest()

    assert result.ret == pytest.ExitCode.USAGE_ERROR
    errors = [line for line in result.errlines if line]
    assert len(errors) == 1, errors
    assert f"channelstub_{name}: {error}" in errors[0]


BAD_ARGUMENTS = [
    ("clock=frozen", "*--channelstub-clock: invalid choice: 'frozen' (choose from *fake*system*)"),
    (
        "strict=lost",
        "ERROR: --channelstub-strict: 'lost' is not allowed here: pass 'dropped', 'un*",
    ),
    ("port=x", "*--channelstub-port: invalid int value: 'x'"),
    ("port=70000", "ERROR: --channelstub-port: 70000 is not a port: pass one from 1 to 65535"),
]


@pytest.mark.parametrize(("argument", "error"), BAD_ARGUMENTS)
def test_a_bad_command_line_value_is_a_usage_error_before_collection(pytester, argument, error):
    pytester.makepyfile("raise RuntimeError('collected')")

    result = pytester.runpytest(f"--channelstub-{argument}")

    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([error])


def test_the_header_shows_what_is_not_at_its_default_and_where_it_was_set(pytester):
    pytester.makeini("[pytest]\nchannelstub_scope = module\nchannelstub_clock = system\n")
    pytester.makepyfile("def test_it(): pass")

    result = pytester.runpytest("--channelstub-clock=freeze", "--channelstub-strict=dropped")

    header = [line for line in result.outlines if line.startswith("channelstub:")]
    assert header == [
        (
            "channelstub: clock=freeze (from --channelstub-clock), "
            "strict=dropped (from --channelstub-strict), scope=module (from ini channelstub_scope)"
        )
    ]


def test_the_header_says_nothing_where_all_is_at_its_default(pytester):
    pytester.makepyfile("def test_it(): pass")

    assert "channelstub:" not in pytester.runpytest().stdout.str()


def test_markers_and_options_say_what_they_are_for(pytester):
    markers = pytester.runpytest("--markers").stdout.str()
    for signature in (
        "channel_stub(*, start, clock, seed, strict, presence):",
        "channel_reset(what):",
        "channel_error(error, call=None, rate=1.0):",
    ):
        assert f"@pytest.mark.{signature}" in markers

    shown = pytester.runpytest("--help").stdout.str()
    for option in (
        "--channelstub-clock={fake,freeze,system}",
        "--channelstub-strict={dropped | unread | dropped,unread}",
        "--channelstub-host=HOST",
    ):
        assert option in shown
    for name in ("start", "clock", "seed", "scope", "reset", "appengine"):
        assert f"channelstub_{name} (string)" in shown
    assert "channelstub_strict (args)" in shown
    assert "channelstub_presence (bool)" in shown


def test_a_run_with_everything_strict_is_clean(pytester):
    pytester.makepyfile(
        """
        import pytest
        from pytest_channelstub import channel

        @pytest.mark.channel_stub(start=1, clock="freeze", seed=1, strict="dropped")
        @pytest.mark.channel_reset("all")
        @pytest.mark.channel_error(3, call="SendChannelMessage", rate=0.0)
        def test_it(channel_stub, channel_clock, channel_client):
            channel_client("alice")
            channel.send_message("alice", "hello")
            channel_clock.advance(5)
        """
    )

    result = pytester.runpytest_subprocess("--strict-markers", "--strict-config", "-W", "error")

    result.assert_outcomes(passed=1)


@pytest.mark.parametrize("presence", [True, False])
@pytest.mark.parametrize("place", ["marker", "ini"])
def test_presence_is_set_by_marker_and_ini(pytester, presence, place):
    marker = f"@pytest.mark.channel_stub(presence={presence})" if place == "marker" else ""
    if place == "ini":
        pytester.makeini(f"[pytest]\nchannelstub_presence = {presence}\n")
    pytester.makepyfile(
        f"""
        import pytest

        {marker}
        def test_it(channel_stub, channel_client):
            channel_client("alice").close()
            assert bool(channel_stub.requests) == {presence}
        """
    )

    pytester.runpytest().assert_outcomes(passed=1)


def test_presence_of_a_test_counts_for_it_alone_on_a_shared_stub(pytester):
    pytester.makeini("[pytest]\nchannelstub_scope = session\n")
    pytester.makepyfile(
        """
        import pytest

        @pytest.mark.channel_stub(presence=False)
        def test_without(channel_stub, channel_client):
            channel_client("alice").close()
            assert not channel_stub.requests

        def test_with(channel_stub, channel_client):
            channel_client("alice").close()
            assert channel_stub.requests
        """
    )

    pytester.runpytest("-p", "no:randomly").assert_outcomes(passed=2)


VALUES = """
channelstub_start = "20240229"
channelstub_strict = ["dropped", "unread"]
channelstub_presence = false
channelstub_scope = "module"
"""
HEADER = (
    "channelstub: start=20240229 (from ini channelstub_start), strict=dropped,unread (from ini "
    "channelstub_strict), presence=False (from ini channelstub_presence), scope=module (from ini "
    "channelstub_scope)"
)


@pytest.mark.parametrize("table", ["tool.pytest.ini_options", "tool.pytest"])
def test_a_toml_file_sets_options_with_its_own_types(pytester, table):
    if table == "tool.pytest" and pytest.version_tuple < (9,):
        pytest.skip("pytest 9 brings the table [tool.pytest]")
    pytester.makepyprojecttoml(f"[{table}]\n{VALUES}")
    pytester.makepyfile("def test_it(channel_clock): assert channel_clock.start == 1709164800")

    result = pytester.runpytest("-W", "error")

    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines([HEADER])


BAD_TOML = [
    ('channelstub_strict = ["lost"]', "['lost'] is not allowed here: pass 'dropped', 'unread' or"),
    ('channelstub_presence = "maybe"', "*maybe*"),
    ('channelstub_start = "2024"', "'2024' is not a time*"),
]


@pytest.mark.parametrize(("line", "error"), BAD_TOML)
def test_a_bad_value_of_a_toml_file_is_a_usage_error(pytester, line, error):
    pytester.makepyprojecttoml(f"[tool.pytest.ini_options]\n{line}\n")

    result = pytester.runpytest()

    assert result.ret == pytest.ExitCode.USAGE_ERROR
    name = line.partition(" ")[0]
    result.stderr.fnmatch_lines([f"ERROR: ini {name}: {error.replace('[', '[[]')}*"])


def test_the_header_shows_where_the_server_listens(pytester):
    pytester.makepyfile("def test_it(): pass")

    result = pytester.runpytest("--channelstub-host=0.0.0.0", "--channelstub-port=8099")

    result.stdout.fnmatch_lines(
        ["channelstub: host=0.0.0.0 (from --channelstub-host), port=8099 (from --channelstub-port)"]
    )


def test_a_start_for_a_sessions_stub_is_refused_with_the_ini_option(pytester):
    pytester.makeini("[pytest]\nchannelstub_scope = session\n")
    pytester.makepyfile(
        """
        import pytest

        @pytest.mark.channel_stub(start=1)
        def test_it(channel_stub): pass
        """
    )

    result = pytester.runpytest()

    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(
        ["*built once for the session; set the ini option channelstub_start,*"]
    )


WORKER_PORT = """
    from urllib.request import urlopen

    import pytest

    @pytest.mark.parametrize("number", range(2))
    def test_it(channel_server, worker_id, number):
        assert channel_server.port == {port} + {workers!r}.index(worker_id)
        with urlopen(channel_server.url_for("/_ah/channel/jsapi")) as answer:
            assert answer.status == 200
"""


def test_each_of_xdists_workers_has_a_server_at_a_port_of_its_own(pytester, free_port):
    """One of them has a name of its own, as `-n2` gives none."""
    pytester.makepyfile(WORKER_PORT.format(port=free_port, workers=["gw0", "alice"]))
    workers = ("--dist=load", "--tx=popen", "--tx=popen//id=alice")

    result = pytester.runpytest("-p", "xdist", *workers, f"--channelstub-port={free_port}")

    result.assert_outcomes(passed=2)


def test_more_workers_than_ports_are_a_usage_error(pytester):
    pytester.makepyfile("def test_it(): pass")

    result = pytester.runpytest("-p", "xdist", "-n2", "--channelstub-port=65535")

    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(
        ["ERROR: --channelstub-port: 65536 is not a port: pass one from 1 to 65535"]
    )


def test_an_empty_host_is_a_usage_error(pytester):
    result = pytester.runpytest("--channelstub-host=")

    result.stderr.fnmatch_lines(["ERROR: --channelstub-host is empty: name an address, such as *"])


def test_a_bad_truth_value_names_the_choices(pytester):
    result = pytester.runpytest("-o", "channelstub_presence=maybe")

    result.stderr.fnmatch_lines(["ERROR: ini channelstub_presence: *: pass true or false"])


def test_a_start_in_the_ini_file_of_the_systems_clock_is_an_error(pytester):
    pytester.makeini("[pytest]\nchannelstub_clock = system\nchannelstub_start = 2024-02-29\n")
    pytester.makepyfile("def test_it(channel_stub): pass")

    result = pytester.runpytest()

    line = "ERROR: ini channelstub_start: start has no effect with clock='system', *"
    result.stderr.fnmatch_lines([line])
    pytester.makeini("[pytest]\nchannelstub_start = 2024-02-29\n")
    pytester.runpytest("--channelstub-clock=system").assert_outcomes(passed=1)
