"""The lost names are found again, and gone when pytest ends."""

import importlib
import importlib.util
import pickle
import sys
from unittest import mock

import pytest

from pytest_channelstub import channel
from pytest_channelstub._appengine import importing as appengine
from pytest_channelstub._service import channel_service_pb, stub

NAMES = {
    "google.appengine.api.channel": channel,
    "google.appengine.api.channel.channel": channel,
    "google.appengine.api.channel.channel_service_pb": channel_service_pb,
    "google.appengine.api.channel.channel_service_stub": stub,
    "google.appengine.api.api_base_pb": channel_service_pb,
}


@pytest.mark.parametrize("name", NAMES)
def test_each_name_gives_our_module(standin, installed, name):
    installed()

    assert importlib.import_module(name) is NAMES[name]


@pytest.mark.parametrize("name", NAMES)
def test_each_name_has_a_spec_before_it_is_imported(standin, installed, name):
    installed()

    assert importlib.util.find_spec(name) is not None


def test_every_form_of_import_gives_one_module(standin, installed):
    installed()

    import google.appengine.api.channel as by_path  # noqa: PLC0415 (its moment is the test)
    from google.appengine.api import channel as by_parent  # noqa: PLC0415 (its moment is the test)
    from google.appengine.api.channel import channel as by_itself  # noqa: PLC0415 (its moment is the test)
    from google.appengine.api.channel import channel_service_pb as pb  # noqa: PLC0415 (its moment is the test)
    from google.appengine.api.channel import channel_service_stub as service_stub  # noqa: PLC0415 (its moment is the test)

    assert by_path is by_parent is by_itself is channel
    assert pb is channel_service_pb
    assert service_stub is stub


def test_an_attribute_replaced_under_either_name_is_seen_under_both(standin, installed):
    installed()
    first = importlib.import_module("google.appengine.api.channel")
    second = importlib.import_module("google.appengine.api.channel.channel")

    with mock.patch("google.appengine.api.channel.send_message") as replaced:
        assert first.send_message is second.send_message is replaced
    with mock.patch("google.appengine.api.channel.channel.send_message") as replaced:
        assert first.send_message is second.send_message is replaced
    assert first.send_message is channel.send_message


def test_the_modules_keep_their_own_name_and_spec(standin, installed):
    installed()
    importlib.import_module("google.appengine.api.channel")

    for module in NAMES.values():
        assert module.__spec__.name == module.__name__
        assert module.__name__.startswith("pytest_channelstub.")


def test_an_error_caught_under_the_old_name_survives_pickling(standin, installed):
    installed()
    old = importlib.import_module("google.appengine.api.channel")

    copy = pickle.loads(pickle.dumps(old.InvalidMessageError("too long")))  # noqa: S301

    assert type(copy) is old.InvalidMessageError


def test_a_real_package_wins(standin, installed):
    real = standin / "google" / "appengine" / "api" / "channel"
    real.mkdir()
    (real / "__init__.py").write_text("REAL = True")
    installed("always")

    assert importlib.import_module("google.appengine.api.channel").REAL


def test_a_real_package_wins_when_its_finder_came_later(standin, installed, monkeypatch):
    installed("always")
    spec = importlib.util.spec_from_loader("google.appengine.api.channel", None, is_package=True)
    finder = mock.Mock(
        **{"find_spec.side_effect": lambda name, *_: spec if name == spec.name else None}
    )
    monkeypatch.setattr(sys, "meta_path", [*sys.meta_path, finder])

    assert importlib.import_module("google.appengine.api.channel") is not channel


def test_a_finder_of_the_old_kind_is_passed_over(standin, installed, monkeypatch):
    installed()
    monkeypatch.setattr(sys, "meta_path", [*sys.meta_path, object()])

    assert importlib.import_module("google.appengine.api.channel") is channel


def test_two_copies_of_the_plugin_do_not_ask_each_other_for_ever(standin, installed, monkeypatch):
    installed()
    copy = appengine._Finder()
    monkeypatch.setattr(sys, "meta_path", [copy, *sys.meta_path])

    assert importlib.import_module("google.appengine.api.channel") is channel


def test_a_finder_that_was_taken_out_during_an_import_leaves_it_to_others(installed, monkeypatch):
    installed()
    monkeypatch.setattr(sys, "meta_path", [])

    assert appengine._FINDER.find_spec("google.appengine.api.channel") is None


def test_the_finder_answers_to_no_other_name(standin, installed):
    installed("always")

    for name in ("google.appengine.api.xmpp", "google.appengine.ext.ndbx", "googlex", "channel"):
        assert appengine._FINDER.find_spec(name) is None


def test_a_name_removed_from_sys_modules_is_found_again(standin, installed):
    installed()
    importlib.import_module("google.appengine.api.channel")

    del sys.modules["google.appengine.api.channel.channel"]
    del sys.modules["google.appengine.api.channel"]

    assert importlib.import_module("google.appengine.api.channel.channel") is channel


def test_a_reload_keeps_the_module_object(run_python):
    printed = run_python(
        """
        import importlib
        from pytest_channelstub._appengine import importing as appengine
        appengine.install("always")
        from google.appengine.api import channel
        print(importlib.reload(channel) is channel, channel.__spec__.name)
        """,
        "-S",
    )

    assert printed == ["True pytest_channelstub.channel"]


def test_never_touches_nothing(standin, installed):
    before = list(sys.meta_path)

    installed("never")

    assert sys.meta_path == before
    with pytest.raises(ImportError):
        importlib.import_module("google.appengine.api.channel")
    assert importlib.import_module("google.appengine.ext.testbed").SUPPORTED_SERVICES == [
        "blobstore",
        "user",
    ]


def test_auto_offers_nothing_without_an_sdk(run_python):
    printed = run_python(
        """
        import sys
        from pytest_channelstub._appengine import importing as appengine
        appengine.install("auto")
        try:
            from google.appengine.api import channel
        except ModuleNotFoundError as error:
            print(error.name, [name for name in sys.modules if name.startswith("google")])
        """,
        "-S",
    )

    assert printed == ["google []"]


def test_always_offers_the_names_without_an_sdk_and_leaves_no_trace(run_python):
    printed = run_python(
        """
        import sys
        from pytest_channelstub import channel as ours
        from pytest_channelstub._appengine import importing as appengine
        before = list(sys.meta_path), dict(vars(ours))
        installation = appengine.install("always")
        from google.appengine.api import channel
        from google.appengine.api.channel import channel_service_pb, channel_service_stub
        print(channel is ours, channel_service_stub.ChannelServiceStub.__name__)
        installation.undo()
        print([name for name in sys.modules if name.startswith("google")])
        print((list(sys.meta_path), dict(vars(ours))) == before)
        try:
            import google
        except ModuleNotFoundError:
            print("gone")
        """,
        "-S",
    )

    assert printed == ["True ChannelServiceStub", "[]", "True", "gone"]


def test_always_leaves_another_google_package_alone(run_python, tmp_path):
    package = tmp_path / "google" / "protobuf"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("REAL = True")
    printed = run_python(
        f"""
        import sys
        sys.path.append({str(tmp_path)!r})
        from pytest_channelstub._appengine import importing as appengine
        installation = appengine.install("always")
        from google.appengine.api import channel
        import google.protobuf
        print(google.protobuf.REAL)
        installation.undo()
        print(sorted(name for name in sys.modules if name.startswith("google")))
        print(hasattr(google, "appengine"))
        """,
        "-S",
    )

    assert printed == ["True", "['google', 'google.protobuf']", "False"]


def test_asking_for_an_error_class_conjures_up_no_google_package(run_python):
    printed = run_python(
        """
        import sys
        from pytest_channelstub import apiproxy_errors
        from pytest_channelstub._appengine import importing as appengine
        appengine.install("always")
        print(apiproxy_errors.OverQuotaError.__module__)
        print([name for name in sys.modules if name.startswith("google")])
        """,
        "-S",
    )

    assert printed == ["pytest_channelstub.apiproxy_errors", "[]"]


def test_undo_puts_parent_modules_and_finders_back(standin):
    parent = importlib.import_module("google.appengine.api")
    before = list(sys.meta_path), set(sys.modules), dict(vars(parent))
    installation = appengine.install()
    importlib.import_module("google.appengine.api.channel.channel_service_stub")

    installation.undo()

    assert (list(sys.meta_path), set(sys.modules), dict(vars(parent))) == before
    with pytest.raises(ImportError):
        importlib.import_module("google.appengine.api.channel")


def test_undo_is_content_with_what_a_test_has_removed(standin):
    installation = appengine.install()
    served = importlib.import_module("google.appengine.api.channel")
    parent = importlib.import_module("google.appengine.api")
    del parent.channel
    del sys.modules["google.appengine.api.channel"]

    installation.undo()

    assert not hasattr(parent, "channel")
    assert served is channel


def test_a_second_undo_does_nothing(standin, installed):
    outer, inner = installed(), installed()

    inner.undo()
    inner.undo()

    assert appengine._FINDER in sys.meta_path
    outer.undo()
    assert appengine._FINDER not in sys.meta_path


def test_the_newest_of_nested_installations_sets_the_mode(standin, installed):
    installed("auto")
    inner = installed("never")

    with pytest.raises(ImportError):
        importlib.import_module("google.appengine.api.channel")

    inner.undo()
    assert importlib.import_module("google.appengine.api.channel") is channel


def test_an_unknown_mode_is_refused_with_the_choices(pristine):
    with pytest.raises(ValueError, match="'sometimes': pass one of 'auto', 'always', 'never'"):
        appengine.install("sometimes")


def test_the_void_message_is_where_asynchronous_senders_look_for_it(standin, installed):
    installed()

    assert importlib.import_module("google.appengine.api.api_base_pb").VoidProto().ByteSize() == 0
