"""A page that is greeted when its channel opens, with Django."""

from django.conf import settings
from django.core.wsgi import get_wsgi_application
from django.http import HttpResponse
from django.template import Context, Engine
from django.urls import path
from django.views.decorators.csrf import csrf_exempt
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

present = set()


def page(request):
    token = channel.create_channel(request.GET["user"])
    template = Engine().from_string(PAGE)
    return HttpResponse(template.render(Context({"token": token})))


def send(request):
    channel.send_message(request.POST["to"], request.POST["text"])
    return HttpResponse("sent")


@csrf_exempt  # the service has no CSRF token
def connected(request):
    client_id = request.POST["from"]
    present.add(client_id)
    channel.send_message(client_id, f"Welcome, {NAMES[client_id]}!")
    return HttpResponse()


@csrf_exempt
def disconnected(request):
    present.discard(request.POST["from"])
    return HttpResponse()


urlpatterns = [
    path("", page),
    path("send", send),
    path("_ah/channel/connected/", connected),
    path("_ah/channel/disconnected/", disconnected),
]
settings.configure(
    ROOT_URLCONF=__name__,
    ALLOWED_HOSTS=["chat.example.com"],
    MIDDLEWARE=["django.middleware.csrf.CsrfViewMiddleware"],
)
app = get_wsgi_application()
