"""Whole pytest runs with the real SDK: a ported suite, and what is left afterwards."""

import shutil
import textwrap
from pathlib import Path

import pytest

REASON = "appengine-python-standard is not installed: pip install 'pytest-channelstub[appengine]'"
pytest.importorskip("google.appengine.ext.testbed", reason=REASON)
pytest.importorskip("webtest", reason="webtest is not installed: the ported suite needs it")

PORT = Path(__file__).parent / "port"


@pytest.fixture
def port(tmp_path):
    shutil.copy(PORT / "chatroom.py", tmp_path)
    shutil.copy(PORT / "chatroom_suite.py", tmp_path / "test_chatroom.py")
    return tmp_path


def test_the_ported_suite_fails_at_import_without_the_plugin(run, port):
    done = run("-m", "pytest", "-p", "no:cacheprovider", "test_chatroom.py")

    assert "cannot import name 'channel' from 'google.appengine.api'" in done.stdout
    assert "1 error" in done.stdout


def test_the_ported_suite_fails_at_import_under_unittest_alone(run, port):
    done = run("-m", "unittest", "test_chatroom")

    assert "cannot import name 'channel'" in done.stderr
    assert done.returncode == 1


def test_the_ported_suite_passes_with_the_plugin(run_pytest, port):
    done = run_pytest("test_chatroom.py")

    assert "8 passed" in done.stdout, done.stdout
    assert done.returncode == 0


def test_the_ported_suite_passes_with_a_fixture_for_every_test(run_pytest, port):
    (port / "conftest.py").write_text(
        textwrap.dedent(
            """
            import pytest

            @pytest.fixture(autouse=True)
            def clocked(channel_stub):
                yield
                assert channel_stub.timeline or channel_stub.clock.elapsed == 0
            """
        )
    )

    done = run_pytest("test_chatroom.py")

    assert "8 passed" in done.stdout, done.stdout


def test_the_ported_suite_fails_as_ever_under_never(run_pytest, port):
    done = run_pytest("-o", "channelstub_appengine=never", "test_chatroom.py")

    assert "cannot import name 'channel' from 'google.appengine.api'" in done.stdout


def test_two_runs_in_one_process_leave_the_sdk_as_it_was(run_python, port):
    printed = run_python(
        """
        import sys
        import pytest
        from google.appengine import api
        from google.appengine.api import apiproxy_stub_map, memcache
        from google.appengine.ext import testbed
        import webtest

        def state():
            return (
                list(sys.meta_path),
                sorted(name for name in sys.modules if name.startswith("google")),
                dict(vars(api)),
                list(testbed.SUPPORTED_SERVICES),
                dict(testbed.INIT_STUB_METHOD_NAMES),
                dict(vars(testbed.Testbed)),
                dict(vars(apiproxy_stub_map.APIProxyStubMap)),
                apiproxy_stub_map.apiproxy,
                dict(apiproxy_stub_map.apiproxy._CopyStubMap()),
            )

        before = state()
        for _ in range(2):
            code = pytest.main(["-q", "-p", "pytest_channelstub.plugin", "test_chatroom.py"])
            print("code", int(code), [a == b for a, b in zip(before, state())])
            sys.modules.pop("test_chatroom", None)
        """
    )

    lines = [line for line in printed if line.startswith("code")]
    assert lines == [f"code 0 {[True] * 9}"] * 2


def test_what_is_imported_first_during_the_run_is_unpatched_after_it(run_python, port):
    printed = run_python(
        """
        import sys
        import pytest
        code = pytest.main(["-q", "-p", "pytest_channelstub.plugin", "test_chatroom.py"])
        print("code", int(code))
        from google.appengine.ext import testbed
        print("channel" in testbed.SUPPORTED_SERVICES, "channel" in testbed.INIT_STUB_METHOD_NAMES)
        print(testbed.Testbed.init_channel_stub.__module__)
        print([each for each in sys.meta_path if "channelstub" in type(each).__module__])
        """
    )

    assert "code 0" in printed
    assert printed[-3:] == ["False False", "google.appengine.ext.testbed", "[]"]


def test_a_fixture_in_the_style_of_pytest_beds_works(run_pytest, tmp_path):
    (tmp_path / "test_beds.py").write_text(
        textwrap.dedent(
            """
            import pytest
            from google.appengine.api import channel as channel_api
            from google.appengine.ext import testbed

            @pytest.fixture
            def bed():
                bed = testbed.Testbed()
                bed.activate()
                yield bed
                bed.deactivate()

            @pytest.fixture
            def channel(bed):
                bed.init_channel_stub()
                return bed.get_stub(testbed.CHANNEL_SERVICE_NAME)

            def test_one(channel):
                channel.connect_channel(channel_api.create_channel("alice"))
                assert channel.is_connected("alice")

            def test_on_the_fake_clock(channel_stub, channel, channel_clock):
                assert channel is channel_stub
                channel.connect_channel(channel_api.create_channel("alice"))
                channel_clock.advance(2)
                assert not channel.is_connected("alice")
            """
        )
    )

    done = run_pytest()

    assert "2 passed" in done.stdout, done.stdout


def test_a_failure_in_a_ported_suite_shows_the_timeline_of_its_testbeds_stub(run_pytest, tmp_path):
    (tmp_path / "test_old.py").write_text(
        textwrap.dedent(
            """
            import unittest
            from google.appengine.api import channel
            from google.appengine.ext import testbed

            class OldTest(unittest.TestCase):
                def setUp(self):
                    self.testbed = testbed.Testbed()
                    self.testbed.activate()
                    self.testbed.init_channel_stub()

                def tearDown(self):
                    self.testbed.deactivate()

                def test_a_message_arrives(self):
                    token = channel.create_channel("alice")
                    channel.send_message("alice", "too early")
                    stub = self.testbed.get_stub("channel")
                    stub.connect_channel(token)
                    self.assertEqual(stub.get_channel_messages(token), ["too early"])
            """
        )
    )

    done = run_pytest()

    section = done.stdout.partition("channel timeline")[2]
    assert "drop" in section, done.stdout
    assert "'too early'" in section


def test_strictness_reaches_a_ported_suite_through_the_fixture(run_pytest, tmp_path):
    (tmp_path / "test_old.py").write_text(
        textwrap.dedent(
            """
            import unittest
            import pytest
            from google.appengine.api import channel
            from google.appengine.ext import testbed

            @pytest.mark.usefixtures("channel_stub")
            class OldTest(unittest.TestCase):
                def test_a_message_is_lost(self):
                    bed = testbed.Testbed()
                    bed.activate()
                    self.addCleanup(bed.deactivate)
                    bed.init_channel_stub()
                    channel.send_message("alice", "too early")
            """
        )
    )

    done = run_pytest("--channelstub-strict=dropped")

    assert "1 failed" in done.stdout, done.stdout
