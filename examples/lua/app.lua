-- Once, before the first request: every request starts from here.
local prices = require("prices")

local requests = 0

local function handler(event, context)
  requests = requests + 1
  local items, total = 0, 0
  for _, item in ipairs(event.items or {}) do
    local count = item.count or 1
    items = items + count
    total = total + count * (item.price or prices[item.name])
  end
  print(context.aws_request_id .. ": " .. items .. " items")
  return { items = items, total = total, requests = requests }
end

return { handler = handler }
