"""A page that is greeted when its channel opens, with Bottle."""

from bottle import Bottle, request, template
from google.appengine.api import channel

NAMES = {"alice": "Alice Liddell", "bob": "Bob Cratchit"}
PAGE = """<!DOCTYPE html>
<body data-token="{{ token }}">
<script src="/_ah/channel/jsapi"></script>
<script>
  new goog.appengine.Channel(document.body.dataset.token).open({
    onmessage(message) { document.body.append(message.data); },
  });
</script>
"""

app = Bottle()
present = set()


@app.get("/")
def page():
    token = channel.create_channel(request.query.user)
    return template(PAGE, token=token)


@app.post("/send")
def send():
    channel.send_message(request.forms.to, request.forms.text)
    return "sent"


@app.post("/_ah/channel/connected/")
def connected():
    client_id = request.forms["from"]  # a keyword: request.forms.from is no Python
    present.add(client_id)
    channel.send_message(client_id, f"Welcome, {NAMES[client_id]}!")


@app.post("/_ah/channel/disconnected/")
def disconnected():
    present.discard(request.forms["from"])
