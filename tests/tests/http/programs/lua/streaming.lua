local count = 0
local steps = {}

function steps.hold(event)
  coroutine.yield("first")
  os.execute("sleep " .. event.seconds)
  coroutine.yield("last")
end

function steps.items(event)
  for _, item in ipairs(event.items) do
    if type(item) == "table" and item.bytes then
      item = string.char(table.unpack(item.bytes))
    end
    coroutine.yield(item)
  end
end

function steps.count()
  count = count + 1
  coroutine.yield(tostring(count))
  print("counted")
  count = count + 1
  coroutine.yield(tostring(count))
end

function steps.large(event)
  for _ = 1, event.pieces do
    coroutine.yield(("x"):rep(event.bytes))
  end
end

steps["raise"] = function()
  coroutine.yield("first")
  error("no good")
end

function steps.odd(event)
  local last <close> = setmetatable({}, { __close = function() print("closed") end })
  coroutine.yield(event.first)
  coroutine.yield(print)
end

function handler(event)
  if event.op == "plain" then
    return { count = count + 1 }
  end
  return coroutine.create(function() steps[event.op](event) return "no item" end)
end
