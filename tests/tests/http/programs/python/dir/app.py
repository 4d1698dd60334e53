def handler(event, context):
    return ["in a directory", event]
