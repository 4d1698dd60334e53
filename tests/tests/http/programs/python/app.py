import os
import random
import sys
import time
import uuid

from pkg.mod import PACKAGED

print("imported")

count = 0
secret = None
generator = random.Random(7)


class NoGood(ValueError):
    pass


def handler(event, context):
    global count, secret
    count += 1
    asked = event.get("op") if isinstance(event, dict) else None
    if asked == "count":
        return {"count": count, "packaged": PACKAGED}
    if asked == "draw":
        return [generator.random(), random.random(), str(uuid.uuid4())]
    if asked == "raise":
        raise NoGood("no good")
    if asked == "sleep":
        print("asleep", flush=True)
        time.sleep(event["seconds"])
        return None
    if asked == "exit":
        os._exit(3)
    if asked == "print":
        print(event["text"])
        print(event["text"], file=sys.stderr)
        return None
    if asked == "env":
        return os.environ.get(event["name"])
    if asked == "cwd":
        return os.getcwd()
    if asked == "swap":
        before, secret = secret, event["secret"]
        return before
    if asked == "large":
        return "x" * event["bytes"]
    if asked == "context":
        identity, client = context.identity, context.client_context
        return {
            "aws_request_id": context.aws_request_id,
            "log_group_name": context.log_group_name,
            "log_stream_name": context.log_stream_name,
            "function_name": context.function_name,
            "memory_limit_in_mb": context.memory_limit_in_mb,
            "function_version": context.function_version,
            "invoked_function_arn": context.invoked_function_arn,
            "client": client and [client.client.installation_id, client.custom, client.env],
            "identity": [identity.cognito_identity_id, identity.cognito_identity_pool_id],
            "tenant_id": context.tenant_id,
            "remaining": context.get_remaining_time_in_millis(),
        }
    return event


def main(args):
    return args
