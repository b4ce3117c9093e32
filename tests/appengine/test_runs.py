"""Whole pytest runs without an SDK, or with one that is not used."""

import importlib.util
import textwrap

import pytest

TEST = """
    from google.appengine.api import channel

    def test_a_channel(channel_stub):
        assert channel_stub.client_id_from_token(channel.create_channel("alice")) == "alice"
"""
HINT = (
    "No App Engine SDK is installed. channelstub_appengine = always in the ini file serves "
    "google.appengine.api.channel without one; pip install 'pytest-channelstub[appengine]' brings "
    "one, with its testbed."
)
without_sdk = pytest.mark.skipif(
    bool(importlib.util.find_spec("google") and importlib.util.find_spec("google.appengine")),
    reason="an App Engine SDK is installed",
)


def write(path, text):
    path.write_text(textwrap.dedent(text))


def test_always_serves_conftest_and_tests(run_pytest, tmp_path):
    write(tmp_path / "conftest.py", "from google.appengine.api import channel")
    write(tmp_path / "test_it.py", TEST)

    done = run_pytest("-o", "channelstub_appengine=always")

    assert "1 passed" in done.stdout, done.stdout


def test_never_serves_nothing(run_pytest, tmp_path):
    write(tmp_path / "test_it.py", TEST)

    done = run_pytest("-o", "channelstub_appengine=never")

    assert "cannot import name 'channel'" in done.stdout or "No module named" in done.stdout
    assert done.returncode == 2


@without_sdk
def test_an_import_that_needs_an_sdk_says_what_brings_it(run_pytest, tmp_path):
    write(tmp_path / "test_channel.py", TEST)
    write(tmp_path / "test_other.py", "import google.cloud")
    write(
        tmp_path / "test_testbed.py",
        """
        def test_a_testbed():
            from google.appengine.ext import testbed
        """,
    )

    done = run_pytest("--continue-on-collection-errors")

    assert done.stdout.count(HINT) == 2, done.stdout


@without_sdk
def test_a_conftest_that_needs_an_sdk_says_what_brings_it(run_pytest, tmp_path):
    write(tmp_path / "conftest.py", "from google.appengine.api import channel")
    write(tmp_path / "test_it.py", TEST)

    assert HINT in run_pytest().stderr


def test_a_bad_value_is_one_line_with_the_choices(run_pytest, tmp_path):
    write(tmp_path / "test_it.py", TEST)

    done = run_pytest("-o", "channelstub_appengine=perhaps")

    (line,) = done.stderr.strip().splitlines()
    assert "perhaps" in line
    assert all(choice in line for choice in ("auto", "always", "never"))
    assert done.returncode == 4


def test_a_run_leaves_the_process_as_it_was(run_python, tmp_path):
    write(tmp_path / "test_it.py", TEST)
    printed = run_python(
        """
        import sys
        import pytest

        def state():
            google = {name: module for name, module in sys.modules.items() if "google" in name}
            return (
                [name for name, module in google.items() if not getattr(module, "__file__", None)],
                [name for name, module in google.items() if module.__name__ != name],
                [finder for finder in sys.meta_path if "channelstub" in type(finder).__module__],
            )

        before = state()
        options = ["-q", "-p", "pytest_channelstub.plugin", "-o", "channelstub_appengine=always"]
        for _ in range(2):
            print("code", int(pytest.main(options)), state() == before)
        """
    )

    assert [line for line in printed if line.startswith("code")] == ["code 0 True"] * 2


def test_a_run_that_fails_at_its_options_leaves_nothing_behind(run_python):
    printed = run_python(
        """
        import sys
        import pytest

        pytest.main(["-p", "pytest_channelstub.plugin", "-o", "channelstub_clock=sundial"])
        print([each for each in sys.meta_path if "channelstub" in type(each).__module__])
        """
    )

    assert printed[-1] == "[]"


def test_a_run_that_uses_no_sdk_imports_nothing_of_it(run_python, tmp_path):
    write(
        tmp_path / "test_it.py",
        """
        from pytest_channelstub import channel

        def test_a_channel(channel_stub):
            assert channel.create_channel("alice")
        """,
    )
    printed = run_python(
        """
        import sys
        import pytest

        before = {name for name in sys.modules if name.partition(".")[0] == "google"}
        print("code", int(pytest.main(["-q", "-p", "pytest_channelstub.plugin"])))
        after = {name for name in sys.modules if name.partition(".")[0] == "google"}
        print("new", sorted(after - before))
        """
    )

    assert "code 0" in printed
    assert printed[-1] == "new []"
