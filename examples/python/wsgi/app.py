"""A site that speaks WSGI, as Flask's and Django's do."""

import json

PRICES = {"apple": 40, "bread": 320}

requests = 0


def app(environ, start_response):
    global requests
    requests += 1
    name = environ["PATH_INFO"].strip("/")
    if name in PRICES:
        status, body = "200 OK", {name: PRICES[name], "requests": requests}
    else:
        status, body = "404 Not Found", {"error": f"there is no {name}"}
    body = json.dumps(body).encode()
    start_response(status, [("Content-Type", "application/json"), ("Content-Length", str(len(body)))])
    return [body]
