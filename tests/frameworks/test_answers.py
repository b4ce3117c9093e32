"""What a test learns of an app's answer to the service's own requests, framework or not."""

from __future__ import annotations

import warnings

import pytest

from pytest_channelstub import ChannelAppWarning, ChannelClient, channel

# As long a style sheet as the error pages of frameworks have.
STYLE = "p { color: red }\n" * 500
HTML = f"""<!doctype html>
<html><head><title>500</title><style>{STYLE}</style><script>alert(1)</script></head>
<body><h1>Server error</h1><p>'alice' &amp; nobody
else</p></body></html>"""


def answering(status, body="", content_type="text/plain; charset=utf-8"):
    def app(environ, start_response):
        start_response(status, [("Content-Type", content_type)])
        return [body.encode()]

    return app


def connect(make_channel_stub, app):
    with make_channel_stub(app=app) as stub:
        ChannelClient(stub, channel.create_channel("alice"))
        return stub


@pytest.fixture
def warning_for(make_channel_stub):
    """A function: the warning that comes of an app when alice connects."""

    def warning_for(app):
        with pytest.warns(ChannelAppWarning) as caught:
            connect(make_channel_stub, app)
        [warning] = caught
        return warning

    return warning_for


def test_an_answer_of_500_is_recorded_with_its_status(make_channel_stub):
    with pytest.warns(ChannelAppWarning):
        stub = connect(make_channel_stub, answering("500 Internal Server Error", "no such user"))
    [request] = stub.requests
    assert request.status == 500
    [event] = stub.timeline.of("alice", kind="request")
    assert "500 Internal Server Error" in str(event.outcome)


def test_a_warning_has_the_status_the_path_the_client_and_what_the_app_answered(warning_for):
    text = str(warning_for(answering("500 Internal Server Error", "no such user")).message)
    assert "500 Internal Server Error" in text
    assert "/_ah/channel/connected/" in text
    assert "alice" in text
    assert "no such user" in text


def test_a_warning_points_at_the_line_of_the_test(warning_for):
    assert warning_for(answering("500 Internal Server Error")).filename == __file__


def test_only_the_beginning_of_a_long_answer_is_shown(warning_for):
    body = "the database is away; " * 1000 + "the end"
    text = str(warning_for(answering("503 Service Unavailable", body)).message)
    assert "the database is away; the database is away" in text
    assert "the end" not in text
    assert len(text) < 1000


def test_an_answer_in_html_is_shown_as_its_text(warning_for):
    text = str(warning_for(answering("500 Oops", HTML, "text/html; charset=utf-8")).message)
    assert "Server error" in text
    assert "'alice' & nobody else" in text
    assert "<" not in text
    assert "alert(1)" not in text
    assert "color: red" not in text


@pytest.mark.parametrize("body", [b"\xff\xfe\x00", b"\x89PNG\r\n\x1a\n"])
def test_an_answer_that_is_no_text_can_be_warned_of(warning_for, body):
    def app(environ, start_response):
        start_response("500 Oops", [("Content-Type", "application/octet-stream")])
        return [body]

    assert "500 Oops" in str(warning_for(app).message)


def test_what_a_failed_connection_handler_answered_is_in_the_report_of_a_failure(pytester):
    pytester.makeconftest(
        """
        import pytest

        @pytest.fixture
        def channel_app():
            def app(environ, start_response):
                start_response("500 Internal Server Error", [("Content-Type", "text/plain")])
                return [b"no such user"]
            return app
        """
    )
    pytester.makepyfile(
        """
        def test_it(channel_client):
            channel_client("alice")
            assert not "the greeting has come"
        """
    )

    result = pytester.runpytest_inprocess("-W", "default")

    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        [
            "*channel timeline*",
            "*request  alice  /_ah/channel/connected/ -> 500 Internal Server Error*",
            "*ChannelAppWarning*no such user*",
        ]
    )


def test_a_403_that_speaks_of_csrf_names_csrf_exempt(warning_for):
    body = "<h1>Forbidden</h1><p>CSRF verification failed. Request aborted.</p>"
    text = str(warning_for(answering("403 Forbidden", body, "text/html")).message)
    assert "csrf_exempt" in text


def test_another_403_does_not_name_csrf_exempt(warning_for):
    text = str(warning_for(answering("403 Forbidden", "members only")).message)
    assert "csrf_exempt" not in text


@pytest.mark.parametrize("status", ["404 Not Found", "405 Method Not Allowed", "403 Forbidden"])
def test_an_app_without_presence_learns_both_remedies(warning_for, status):
    text = str(warning_for(answering(status, "")).message)
    assert "/_ah/channel/connected/" in text
    assert "presence=False" in text


def test_djangos_own_403_names_csrf_exempt(require, write_example, pytester):
    require("django")
    app = write_example("django") / "django_app.py"
    text = app.read_text(encoding="utf-8")
    app.write_text(text.replace("@csrf_exempt", "#"), encoding="utf-8")

    result = pytester.runpytest_inprocess("-W", "default", "-k", "greeted")

    result.assert_outcomes(failed=1, deselected=4)
    result.stdout.fnmatch_lines(["*ChannelAppWarning: *403 Forbidden*csrf_exempt*"])


def test_the_services_requests_name_localhost_as_their_host(make_channel_stub):
    hosts = []

    def app(environ, start_response):
        hosts.append(environ["HTTP_HOST"])
        return answering("200 OK")(environ, start_response)

    connect(make_channel_stub, app)

    assert hosts[0] == "localhost"


# What is given as the app and is no WSGI callable.


async def asgi_function(scope, receive, send):
    pass


class AsgiObject:
    async def __call__(self, scope, receive, send):
        pass


def create_app():
    return answering("200 OK")


def create_app_from(config=None):
    return answering("200 OK")


def get_wsgi_application():
    return answering("200 OK")


class WsgiObject:
    def __call__(self, environ, start_response):
        return answering("200 OK")(environ, start_response)

    def wsgi(self, environ, start_response):
        return self(environ, start_response)


def wsgi_of_any_arguments(*arguments, **options):
    return answering("200 OK")(*arguments)


def wsgi_with_an_option(environ, start_response, options=None):
    return answering("200 OK")(environ, start_response)


@pytest.mark.parametrize("app", [asgi_function, AsgiObject()], ids=["function", "object"])
def test_an_asgi_app_is_refused_with_what_makes_a_wsgi_app_of_it(make_channel_stub, app):
    with pytest.raises(TypeError, match=r"a2wsgi\.ASGIMiddleware\("):
        make_channel_stub(app=app)


@pytest.mark.parametrize("app", [create_app, create_app_from, get_wsgi_application])
def test_an_app_factory_is_refused_with_the_call_that_makes_the_app(make_channel_stub, app):
    with pytest.raises(TypeError, match=rf"{app.__name__}\(\)"):
        make_channel_stub(app=app)


def test_a_real_asgi_app_is_refused(require, make_channel_stub):
    require("starlette")
    from starlette.applications import Starlette  # noqa: PLC0415 (an extra)

    with pytest.raises(TypeError, match=r"a2wsgi\.ASGIMiddleware\("):
        make_channel_stub(app=Starlette())


@pytest.mark.parametrize("value", ["asgi_app", "create_app"])
def test_what_channel_app_returns_is_checked_as_the_stub_is_built(pytester, value):
    pytester.makeconftest(
        f"""
        import pytest

        async def asgi_app(scope, receive, send): pass

        def create_app(): pass

        @pytest.fixture
        def channel_app():
            return {value}
        """
    )
    pytester.makepyfile("def test_it(channel_stub): pass")

    result = pytester.runpytest_inprocess()

    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(
        {
            "asgi_app": ["E *TypeError: *a2wsgi.ASGIMiddleware(*"],
            "create_app": ["E *TypeError: *create_app()*"],
        }[value]
    )


@pytest.mark.parametrize(
    "app",
    [WsgiObject(), WsgiObject().wsgi, wsgi_of_any_arguments, wsgi_with_an_option],
    ids=["object", "method", "any arguments", "an option"],
)
def test_every_shape_of_a_wsgi_callable_is_taken(make_channel_stub, app):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        stub = connect(make_channel_stub, app)
    assert stub.requests[0].status == 200


# The same under the live server: what a page, or a test, gets for an answer.

FAULTY_SITE = """
    import pytest

    @pytest.fixture
    def channel_app():
        def app(environ, start_response):
            if environ["PATH_INFO"].startswith("/_ah/"):
                start_response("200 OK", [("Content-Type", "text/plain")])
                return [b""]
            start_response("500 Internal Server Error", [("Content-Type", "text/html")])
            return [b"<h1>Server error</h1>no such table"]
        return app
"""
VISIT = """
    from urllib.error import HTTPError
    from urllib.request import urlopen

    import pytest

    def test_it(channel_server):
        with pytest.raises(HTTPError):
            urlopen(channel_server.url_for("/page"))
"""


def test_an_answer_of_500_under_the_live_server_is_warned_of(pytester):
    pytester.makeconftest(FAULTY_SITE)
    pytester.makepyfile(VISIT)

    result = pytester.runpytest_inprocess("-W", "default")

    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(
        ["*ChannelAppWarning: *500 Internal Server Error*GET /page*no such table*"]
    )


def test_an_answer_of_500_under_the_live_server_is_in_the_report_of_a_failure(pytester):
    pytester.makeconftest(FAULTY_SITE)
    pytester.makepyfile(VISIT + '        assert not "what the page was to do"\n')

    result = pytester.runpytest_inprocess("-W", "default")

    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*channel timeline*", "*/page -> 500 Internal Server Error*"])
