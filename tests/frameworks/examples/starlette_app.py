"""A page that is greeted when its channel opens, with Starlette, an ASGI framework."""

from html import escape

from google.appengine.api import channel
from starlette.applications import Starlette
from starlette.responses import HTMLResponse, PlainTextResponse
from starlette.routing import Route

NAMES = {"alice": "Alice Liddell", "bob": "Bob Cratchit"}
PAGE = """<!DOCTYPE html>
<body data-token="{token}">
<script src="/_ah/channel/jsapi"></script>
<script>
  new goog.appengine.Channel(document.body.dataset.token).open({
    onmessage(message) { document.body.append(message.data); },
  });
</script>
"""

present = set()


async def page(request):
    token = channel.create_channel(request.query_params["user"])
    return HTMLResponse(PAGE.replace("{token}", escape(token)))


async def send(request):
    form = await request.form()
    channel.send_message(form["to"], form["text"])
    return PlainTextResponse("sent")


async def connected(request):
    form = await request.form()
    client_id = form["from"]
    present.add(client_id)
    channel.send_message(client_id, f"Welcome, {NAMES[client_id]}!")
    return PlainTextResponse("")


async def disconnected(request):
    form = await request.form()
    present.discard(form["from"])
    return PlainTextResponse("")


app = Starlette(
    routes=[
        Route("/", page),
        Route("/send", send, methods=["POST"]),
        Route("/_ah/channel/connected/", connected, methods=["POST"]),
        Route("/_ah/channel/disconnected/", disconnected, methods=["POST"]),
    ]
)
