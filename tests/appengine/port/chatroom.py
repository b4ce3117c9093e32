"""A chat room as it was written for Python 2, ported no further than Python 3 itself asks."""

import json

from google.appengine.api import channel, memcache
from google.appengine.runtime import apiproxy_errors
from webob import Request, Response

MEMBERS = "members"


def members():
    return memcache.get(MEMBERS) or []


def join(request):
    name = request.POST["name"]
    token = channel.create_channel(name, duration_minutes=60)
    return Response(json={"token": token})


def say(request):
    message = json.dumps({"from": request.POST["name"], "text": request.POST["text"]})
    try:
        for member in members():
            channel.send_message(member, message)
    except channel.InvalidMessageError:
        return Response("too long", status=400)
    except apiproxy_errors.OverQuotaError:
        return Response("come back tomorrow", status=503)
    return Response("said")


def connected(request):
    name = request.POST["from"]
    memcache.set(MEMBERS, [*members(), name])
    channel.send_message(name, json.dumps({"from": "room", "text": "welcome"}))
    return Response()


def disconnected(request):
    memcache.set(MEMBERS, [member for member in members() if member != request.POST["from"]])
    return Response()


ROUTES = {
    "/join": join,
    "/say": say,
    "/_ah/channel/connected/": connected,
    "/_ah/channel/disconnected/": disconnected,
}


def application(environ, start_response):
    request = Request(environ)
    return ROUTES[request.path](request)(environ, start_response)
