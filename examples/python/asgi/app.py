"""A site that speaks ASGI, as Starlette's and FastAPI's do. What it sends leaves at once."""

import asyncio

requests = 0


async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        # In the worker, and before its first request: a place for what cannot be forked.
        await receive()
        scope["state"]["seconds"] = 0.1
        await send({"type": "lifespan.startup.complete"})
        await receive()
        return
    global requests
    requests += 1
    headers = [(b"content-type", b"text/event-stream")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    for left in range(3, 0, -1):
        event = f"data: {left}\n\n".encode()
        await send({"type": "http.response.body", "body": event, "more_body": True})
        await asyncio.sleep(scope["state"]["seconds"])
    event = f"data: request {requests}\n\n".encode()
    await send({"type": "http.response.body", "body": event})
