import socket

kept = open(__file__)
ours, theirs = socket.socketpair()


def handler(event, context):
    return kept.readline()
