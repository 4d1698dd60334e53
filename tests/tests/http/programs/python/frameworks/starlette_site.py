from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.responses import JSONResponse, StreamingResponse
from starlette.routing import Route

count = 0


async def counted(request):
    global count
    count += 1
    return JSONResponse({"count": count})


async def echo(request):
    body = (await request.body()).decode()
    answer = JSONResponse({"path": request.path_params["rest"], "query": request.query_params["q"], "body": body})
    answer.set_cookie("a", "1")
    answer.set_cookie("b", "2")
    return answer


async def stream(request):
    # An iterator that it runs in a thread.
    return StreamingResponse(iter([f"{number}\n" for number in range(3)]))


async def bad(request):
    raise ValueError("no good")


async def through(request, call_next):
    return await call_next(request)


app = Starlette(
    routes=[
        Route("/count", counted),
        Route("/echo/{rest:path}", echo, methods=["POST"]),
        Route("/stream", stream),
        Route("/bad", bad),
    ],
    middleware=[Middleware(BaseHTTPMiddleware, dispatch=through)],
)
