local module = {}

function module.handler(event, context)
  return { event, context.aws_request_id }
end

return module
