print("imported")

local count = 0
local secret = json.null
math.random()

local operations = {}

function operations.count()
  return { count = count }
end

function operations.draw()
  return { math.random(), math.random(0) }
end

operations["raise"] = function()
  error("no good")
end

function operations.sleep(event)
  print("asleep")
  os.execute("sleep " .. event.seconds)
end

function operations.print(event)
  print(event.text)
  io.stderr:write(event.text, "\n")
end

function operations.env(event)
  return os.getenv(event.name)
end

function operations.cwd()
  return io.popen("pwd"):read()
end

function operations.swap(event)
  local before = secret
  secret = event.secret
  return before
end

function operations.large(event)
  return ("x"):rep(event.bytes)
end

function operations.context(_, context)
  local found = { remaining = context.get_remaining_time_in_millis() }
  for name, value in pairs(context) do
    if type(value) ~= "function" then
      found[name] = value
    end
  end
  context.log("logged")
  return found
end

local function handler(event, context)
  count = count + 1
  local operation = type(event) == "table" and operations[event.op]
  if operation then
    return operation(event, context)
  end
  return event
end

local function main(args)
  return args
end

return { handler = handler, main = main }
