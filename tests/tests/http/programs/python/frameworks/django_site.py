from django.conf import settings

settings.configure(
    SECRET_KEY="none",
    ROOT_URLCONF=__name__,
    ALLOWED_HOSTS=["*"],
    MIDDLEWARE=["django.middleware.common.CommonMiddleware"],
)

from django.core.asgi import get_asgi_application
from django.core.wsgi import get_wsgi_application
from django.http import JsonResponse, StreamingHttpResponse
from django.urls import path

count = 0


def counted(request):
    global count
    count += 1
    return JsonResponse({"count": count})


def echo(request, rest):
    answer = JsonResponse({"path": rest, "query": request.GET.get("q"), "body": request.body.decode()})
    answer.set_cookie("a", "1")
    answer.set_cookie("b", "2")
    return answer


def stream(request):
    async def later():
        for number in range(3):
            yield f"{number}\n"

    pieces = later() if hasattr(request, "scope") else (f"{number}\n" for number in range(3))
    return StreamingHttpResponse(pieces)


def bad(request):
    raise ValueError("no good")


urlpatterns = [
    path("count", counted),
    path("echo/<path:rest>", echo),
    path("stream", stream),
    path("bad", bad),
]
wsgi = get_wsgi_application()
asgi = get_asgi_application()
