"""The page's examples pass, and each needs the lines that let an exception through to the test."""

from __future__ import annotations

import pytest

# The run that these tests belong to has the plugin loaded already.
QUIETLY = ["-W", "ignore::pytest.PytestAssertRewriteWarning"]

# For each framework what it needs beside itself, and its switch: what lets an exception through.
FRAMEWORKS = {
    "flask": ([], "flask_app.app.testing = True"),
    "django": ([], "DEBUG_PROPAGATE_EXCEPTIONS=True,"),
    "bottle": ([], "bottle_app.app.catchall = False"),
    "webob": ([], "monkeypatch.setitem(webob_app.app.error_handlers, 500, raise_again)"),
    "starlette": (["a2wsgi", "python_multipart"], 'raise environ["asgi.error"]'),
}


@pytest.fixture(params=FRAMEWORKS)
def framework(request):
    needed, _ = FRAMEWORKS[request.param]
    request.getfixturevalue("require")(request.param, *needed)
    return request.param


# What a page of Django's sends beside the form, as the docs say.
WITH_CSRF_TOKEN = {
    "import urlopen": "import Request, urlopen",
    'urlopen(channel_server.url_for("/send"), form)': """urlopen(
        Request(channel_server.url_for("/send"), form, CSRF_HEADERS)
    )""",
    "import pytest": """import pytest

CSRF_HEADERS = {"Cookie": "csrftoken=" + "c" * 32, "X-CSRFToken": "c" * 32}""",
}


@pytest.fixture
def example(framework, write_example):
    """The conftest.py of a framework's example, in a directory of its own."""
    directory = write_example(framework)
    if framework == "django":
        tests = directory / "test_app.py"
        text = tests.read_text("utf-8")
        for without, with_token in WITH_CSRF_TOKEN.items():
            assert without in text
            text = text.replace(without, with_token)
        tests.write_text(text, "utf-8")
    return directory / "conftest.py"


def test_an_example_passes(example, pytester):
    result = pytester.runpytest_inprocess("-W", "error", *QUIETLY)

    result.assert_outcomes(passed=5)


def test_without_the_switch_an_exception_is_a_warning(framework, example, pytester):
    _, switch = FRAMEWORKS[framework]
    text = example.read_text(encoding="utf-8")
    assert switch in text
    without = text.replace(switch, "pass" if switch.startswith("raise") else "")
    example.write_text(without, encoding="utf-8")

    result = pytester.runpytest_inprocess("-W", "default", *QUIETLY, "-k", "exception")

    result.assert_outcomes(failed=1, deselected=4, warnings=1)
    result.stdout.fnmatch_lines(
        ["E *DID NOT RAISE*KeyError*", "*ChannelAppWarning: the app answered '500 *"]
    )
