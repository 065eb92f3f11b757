"""Requests to a node's HTTP API."""

import base64
import json
import urllib.error
import urllib.request


def http(node, method, path, body=None, user="guest:guest", headers=None):
    """The status and the JSON of an answer."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(f"http://127.0.0.1:{node.http_port}/api{path}", data, method=method)
    request.add_header("Authorization", "Basic " + base64.b64encode(user.encode()).decode())
    for key, value in (headers or {}).items():
        request.add_header(key, value)
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            status, text = answer.status, answer.read()
    except urllib.error.HTTPError as error:
        status, text = error.code, error.read()
    return status, json.loads(text) if text else None
