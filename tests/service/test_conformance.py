"""Every recorded step of the SDK's own stub, replayed through the fixtures.

conformance/README.md describes the format of the traces.
"""

from __future__ import annotations

import json
from pathlib import Path
from urllib.parse import parse_qs

import pytest

from pytest_channelstub import apiproxy_errors, channel
from pytest_channelstub._service import channel_service_pb

HERE = Path(__file__).with_name("conformance")
SCENARIOS = json.loads((HERE / "scenarios.json").read_text("utf-8"))
WALKS = json.loads((HERE / "walks.json").read_text("utf-8"))
TRACES = SCENARIOS + WALKS

FORM = "application/x-www-form-urlencoded"
REQUESTS = {
    "CreateChannel": channel_service_pb.CreateChannelRequest,
    "SendChannelMessage": channel_service_pb.SendMessageRequest,
}


class Replay:
    """One trace, driven step by step."""

    def __init__(self, stub):
        self.stub = stub
        self.bound = {}

    def step(self, step):
        """What the step did, in the form of the recording, without its requests."""
        arguments = {name: self.value(value) for name, value in step["args"].items()}
        try:
            result = self.perform(step["do"], arguments)
        except Exception as error:  # noqa: BLE001 (whatever comes is compared)
            return describe_error(error)
        if "bind" in step:
            self.bound[step["bind"]] = result
        return {"returns": describe_token(result) if is_token(step) else describe(result)}

    def value(self, value):
        if isinstance(value, str) and value.startswith("$"):
            return self.bound[value[1:]]
        if isinstance(value, dict) and "$repeat" in value:
            text, times = value["$repeat"]
            return text * times
        if isinstance(value, dict):
            return {name: self.value(field) for name, field in value.items()}
        return value

    def perform(self, do, arguments):
        if do in ("create_channel", "send_message"):
            return getattr(channel, do)(**arguments)
        if do == "advance":
            return self.stub.clock.advance(**arguments)
        if do == "inspect":
            return arguments["value"]
        if do == "SetError":
            return self.set_error(**arguments)
        if do == "MakeSyncCall":
            return self.make_sync_call(**arguments)
        return getattr(self.stub, do)(**arguments)

    def set_error(self, error, method=None, code=None, **options):
        if error is not None:
            kind = getattr(apiproxy_errors, error)
            error = kind() if code is None else kind(code)
        return self.stub.SetError(error, method, **options)

    def make_sync_call(self, service, call, request):
        message = REQUESTS[call]()
        for name, value in request.items():
            getattr(message, f"set_{name}")(value)
        response = channel_service_pb.CreateChannelResponse()
        self.stub.MakeSyncCall(service, call, message, response)
        return response.token() if call == "CreateChannel" else None


def is_token(step):
    return isinstance(step.get("returns"), dict)


def describe_token(token):
    _, identifier, _, expires, client_id = token.split("-", 4)
    assert identifier == "channel"
    return {"client_id": client_id, "expires": int(expires)}


def describe(result):
    return list(result) if isinstance(result, list) else result


def describe_error(error):
    outcome = {"raises": type(error).__name__}
    code = getattr(error, "application_error", None)
    return outcome if code is None else outcome | {"code": code}


def expected(step):
    return {key: step[key] for key in ("returns", "raises", "code") if key in step}


def exact(outcome):
    """As JSON text, where True is not 1."""
    return json.dumps(outcome, sort_keys=True)


def handed_over(stub):
    """The requests as `stub.requests` shows them, in the form of the recording."""

    def describe_request(request):
        assert request.method == "POST"
        assert dict(request.headers) == {"Content-Type": FORM}
        assert request.source_ip == "0.1.0.10"
        return {"url": request.url, "body": request.body, "at": request.at}

    return lambda: [describe_request(request) for request in stub.requests]


def received(stub):
    """The requests as a WSGI app receives them, in the form of the recording."""
    posts = []

    def app(environ, start_response):
        assert environ["REQUEST_METHOD"] == "POST"
        assert environ["CONTENT_TYPE"] == FORM
        assert environ["REMOTE_ADDR"] == "0.1.0.10"
        form = environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"])).decode("ascii")
        [(name, [client_id])] = parse_qs(form, strict_parsing=True, keep_blank_values=True).items()
        posts.append(
            {
                "url": environ["PATH_INFO"],
                "body": f"{name}={client_id}",
                "at": stub.clock.time(),
            }
        )
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [b""]

    stub.app = app
    return lambda: posts


@pytest.mark.parametrize("seen_by", [handed_over, received])
@pytest.mark.parametrize("trace", TRACES, ids=lambda trace: trace["name"])
def test_a_recorded_trace_agrees_step_by_step(trace, seen_by, make_channel_stub, request):
    with make_channel_stub(start=trace["start"]) as stub:
        replay, posts = Replay(stub), seen_by(stub)
        for number, step in enumerate(trace["steps"]):
            before = len(posts())
            outcome = replay.step(step)
            assert exact(outcome) == exact(expected(step)), f"step {number}: {step}"
            assert posts()[before:] == step.get("posts", []), f"step {number}: {step}"
    # record_property says the same with a warning wherever --junitxml is on.
    request.node.user_properties.append(("conformance steps", (trace["name"], len(trace["steps"]))))


def test_all_4030_recorded_steps_are_among_the_traces():
    assert len(SCENARIOS) == 37
    assert len(WALKS) == 60
    assert sum(len(trace["steps"]) for trace in TRACES) == 4030
