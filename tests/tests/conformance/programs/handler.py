def handler(event, context):
    return [event, context.aws_request_id]
