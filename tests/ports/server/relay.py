"""Hands on whatever is posted to it, as it comes."""

from urllib.parse import parse_qs

from google.appengine.api import channel


def application(environ, start_response):
    [client_id] = parse_qs(environ["QUERY_STRING"])["to"]
    body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
    status, answer = "200 OK", "sent"
    if environ["PATH_INFO"] == "/token":
        answer = channel.create_channel(client_id)
    else:
        try:
            channel.send_message(client_id, body)
        except channel.InvalidMessageError as error:
            status, answer = "400 Bad Request", str(error)
    start_response(status, [("Content-Type", "text/plain; charset=utf-8")])
    return [answer.encode("utf-8")]
