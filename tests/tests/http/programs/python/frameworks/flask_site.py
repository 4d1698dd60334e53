import threading

from flask import Flask, Response, jsonify, request

app = Flask(__name__)
count = 0


@app.get("/count")
def counted():
    global count
    count += 1
    return {"count": count, "threads": threading.active_count()}


@app.post("/echo/<path:rest>")
def echo(rest):
    answer = jsonify(path=rest, query=request.args.get("q"), body=request.get_data(as_text=True))
    answer.set_cookie("a", "1")
    answer.set_cookie("b", "2")
    return answer


@app.get("/stream")
def stream():
    return Response((f"{number}\n" for number in range(3)), mimetype="text/plain")


@app.get("/bad")
def bad():
    raise ValueError("no good")
