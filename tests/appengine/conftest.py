"""A stand-in for the SDK, small enough to read, and the check that the real one is there."""

import importlib
import importlib.util
import os
import subprocess
import sys
import textwrap
from pathlib import Path
from unittest import mock

import pytest

from pytest_channelstub._appengine import importing, patches

PACKAGE = Path(importing.__file__).parents[1]


def is_installed(name):
    try:
        return importlib.util.find_spec(name) is not None
    except ModuleNotFoundError:
        return False


if os.environ.get("CHANNELSTUB_REQUIRE_SDK"):
    missing = [name for name in ("google.appengine.ext", "webtest") if not is_installed(name)]
    if missing:
        message = f"CHANNELSTUB_REQUIRE_SDK is set, and there is no {' and no '.join(missing)}."
        raise pytest.UsageError(message)

STANDIN = {
    "__init__.py": "",
    "appengine/__init__.py": "",
    "appengine/api/__init__.py": "",
    "appengine/ext/__init__.py": "",
    "appengine/runtime/__init__.py": "",
    "appengine/runtime/apiproxy_errors.py": """
        class Error(Exception):
            pass

        class ApplicationError(Error):
            def __init__(self, application_error, error_detail=""):
                super().__init__(application_error)
                self.application_error = application_error
                self.error_detail = error_detail
    """,
    "appengine/api/request_info.py": """
        class _LocalFakeDispatcher:
            pass

        class _LocalRequestInfo:
            dispatcher = _LocalFakeDispatcher()

            def get_dispatcher(self):
                return self.dispatcher
    """,
    "appengine/api/apiproxy_stub_map.py": """
        class APIProxyStubMap:
            def __init__(self, default=None):
                self.__stub_map = {}
                self.default = default
                self.calls = []

            def GetStub(self, service):
                return self.__stub_map.get(service, self.default)

            def RegisterStub(self, service, stub):
                assert service not in self.__stub_map, service
                self.__stub_map[service] = stub

            def MakeSyncCall(self, service, call, request, response):
                self.calls.append(call)
                stub = self.GetStub(service)
                assert stub, f"nothing for {service}"
                return stub.MakeSyncCall(service, call, request, response)

        apiproxy = APIProxyStubMap()

        def MakeSyncCall(service, call, request, response, stubmap=None):
            return (stubmap or apiproxy).MakeSyncCall(service, call, request, response)
    """,
    "appengine/ext/testbed/__init__.py": """
        from google.appengine.api import apiproxy_stub_map

        INIT_STUB_METHOD_NAMES = {"blobstore": "init_blobstore_stub", "user": "init_user_stub"}
        SUPPORTED_SERVICES = sorted(INIT_STUB_METHOD_NAMES)

        class Testbed:
            _activated = False

            def activate(self):
                self._activated = True
                self.before = apiproxy_stub_map.apiproxy
                self._test_stub_map = apiproxy_stub_map.APIProxyStubMap()
                apiproxy_stub_map.apiproxy = self._test_stub_map
                self.enabled = {}

            def deactivate(self):
                for stub, callback in self.enabled.values():
                    if callback:
                        callback(stub)
                self._activated = False
                apiproxy_stub_map.apiproxy = self.before

            def _register_stub(self, service_name, stub, deactivate_callback=None):
                self._disable_stub(service_name)
                self.enabled[service_name] = stub, deactivate_callback

            def _disable_stub(self, service_name):
                stub, callback = self.enabled.pop(service_name, (None, None))
                if callback:
                    callback(stub)
                self._test_stub_map._APIProxyStubMap__stub_map.pop(service_name, None)

            def get_stub(self, service_name):
                return self.enabled.get(service_name, (None,))[0]

            def init_channel_stub(self, enable=True):
                raise NotImplementedError

            def init_blobstore_stub(self, enable=True):
                pass

            init_user_stub = init_blobstore_stub

            def init_all_stubs(self):
                for service in SUPPORTED_SERVICES:
                    getattr(self, INIT_STUB_METHOD_NAMES[service])()
    """,
}


@pytest.fixture
def pristine(monkeypatch):
    """As in a process in which the plugin has installed nothing and no SDK was imported."""
    others = [each for each in sys.meta_path if each is not importing._FINDER]
    for module, state in zip((importing, patches), [importing.State()] * 2, strict=True):
        monkeypatch.setattr(module, "state", state)
    monkeypatch.setattr(sys, "meta_path", others)
    with mock.patch.dict(sys.modules):
        for name in [name for name in sys.modules if name.partition(".")[0] == "google"]:
            del sys.modules[name]
        yield


@pytest.fixture
def standin(pristine, tmp_path, monkeypatch):
    """A directory on `sys.path` with the stand-in, in front of any real SDK."""
    for name, text in STANDIN.items():
        path = tmp_path / "standin" / "google" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(text))
    monkeypatch.syspath_prepend(tmp_path / "standin")
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    return tmp_path / "standin"


@pytest.fixture
def installed():
    """Install as the plugin does, and undo it at the end, in whatever mode is asked for."""
    installations = []

    def install(mode="auto"):
        installations.append(importing.install(mode))
        return installations[-1]

    yield install
    for installation in reversed(installations):
        installation.undo()


@pytest.fixture
def run(tmp_path):
    """Run Python in a process of its own, in the test's directory."""
    home = tmp_path / "home"  # the package alone, without what is installed beside it
    home.mkdir()
    (home / PACKAGE.name).symlink_to(PACKAGE)

    def run(*arguments):
        ours = ("PYTEST_PLUGINS", "PYTEST_ADDOPTS")
        environment = {name: value for name, value in os.environ.items() if name not in ours} | {
            "PYTHONPATH": str(home),
            "PYTHONDONTWRITEBYTECODE": "1",
            "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
        }
        return subprocess.run(  # noqa: S603 (our own interpreter)
            [sys.executable, *arguments],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )

    return run


@pytest.fixture
def run_python(run):
    """Run a program and return what it printed, as lines."""

    def run_python(program, *options):
        done = run(*options, "-c", textwrap.dedent(program))
        assert done.returncode == 0, done.stderr
        return done.stdout.splitlines()

    return run_python


@pytest.fixture
def run_pytest(run):
    """Run pytest with this plugin alone, by its module: it need not be installed."""

    def run_pytest(*arguments):
        plugin = ("-p", "pytest_channelstub.plugin")
        return run("-m", "pytest", *plugin, "-p", "no:cacheprovider", *arguments)

    return run_pytest
