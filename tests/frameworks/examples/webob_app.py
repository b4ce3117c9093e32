"""A page that is greeted when its channel opens, in webapp2's style on WebOb."""

from html import escape

from google.appengine.api import channel
from webob import Response
from webob.dec import wsgify
from webob.exc import HTTPNotFound

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


class RequestHandler:
    def __init__(self, request, response):
        self.request = request
        self.response = response


class Page(RequestHandler):
    def get(self):
        token = channel.create_channel(self.request.GET["user"])
        self.response.text = PAGE.replace("{token}", escape(token))


class Send(RequestHandler):
    def post(self):
        channel.send_message(self.request.POST["to"], self.request.POST["text"])


class Connected(RequestHandler):
    def post(self):
        client_id = self.request.POST["from"]
        present.add(client_id)
        channel.send_message(client_id, f"Welcome, {NAMES[client_id]}!")


class Disconnected(RequestHandler):
    def post(self):
        present.discard(self.request.POST["from"])


class WSGIApplication:
    """What the app needs of webapp2's class of this name."""

    def __init__(self, routes):
        self.routes = dict(routes)
        self.error_handlers = {500: answer_500}

    @wsgify
    def __call__(self, request):
        if request.path not in self.routes:
            return HTTPNotFound()
        response = Response()
        handler = self.routes[request.path](request, response)
        try:
            getattr(handler, request.method.lower())()
        except Exception as exception:
            self.error_handlers[500](request, response, exception)
        return response


def answer_500(request, response, exception):
    response.status = 500
    response.text = f"{type(exception).__name__}: {exception}"


app = WSGIApplication(
    [
        ("/", Page),
        ("/send", Send),
        ("/_ah/channel/connected/", Connected),
        ("/_ah/channel/disconnected/", Disconnected),
    ]
)
