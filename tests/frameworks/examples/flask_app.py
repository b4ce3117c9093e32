"""A page that is greeted when its channel opens, with Flask."""

from flask import Flask, render_template_string, request
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

app = Flask(__name__)
present = set()


@app.get("/")
def page():
    token = channel.create_channel(request.args["user"])
    return render_template_string(PAGE, token=token)


@app.post("/send")
def send():
    channel.send_message(request.form["to"], request.form["text"])
    return "sent"


@app.post("/_ah/channel/connected/")
def connected():
    client_id = request.form["from"]
    present.add(client_id)
    channel.send_message(client_id, f"Welcome, {NAMES[client_id]}!")
    return ""


@app.post("/_ah/channel/disconnected/")
def disconnected():
    present.discard(request.form["from"])
    return ""
