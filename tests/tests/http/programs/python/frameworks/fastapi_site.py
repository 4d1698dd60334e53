import asyncio
from contextlib import asynccontextmanager

from fastapi import BackgroundTasks, FastAPI, Request, Response
from fastapi.responses import StreamingResponse


@asynccontextmanager
async def lifespan(app):
    app.state.lock = asyncio.Lock()
    yield


app = FastAPI(lifespan=lifespan)
count = 0


# In a thread of the framework's, as what is no coroutine function is.
@app.get("/count")
def counted():
    global count
    count += 1
    return {"count": count}


@app.post("/echo/{rest:path}")
async def echo(rest: str, q: str, request: Request, response: Response, tasks: BackgroundTasks):
    async with app.state.lock:
        response.set_cookie("a", "1")
        response.set_cookie("b", "2")
        tasks.add_task(print, "in the background")
        return {"path": rest, "query": q, "body": (await request.body()).decode()}


@app.get("/stream")
async def stream():
    async def later():
        for number in range(3):
            yield f"{number}\n"

    return StreamingResponse(later())


@app.get("/bad")
async def bad():
    raise ValueError("no good")
