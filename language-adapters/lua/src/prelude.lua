-- The adapter's half in Lua. What it needs of the libraries it takes before a function
-- runs: what that replaces there is not called here.

local native, path = ...

local globals = _G
local error, getmetatable, load, next, pcall, rawget, setmetatable, tostring, type, xpcall =
  error, getmetatable, load, next, pcall, rawget, setmetatable, tostring, type, xpcall
local format, gsub, match, sort = string.format, string.gsub, string.match, table.sort
local traceback, require = debug.traceback, require
local getenv, stdout = os.getenv, io.stdout
local close, resume, status = coroutine.close, coroutine.resume, coroutine.status

-- Line by line, so that what was printed is there even of a call that is given up.
io.stdout:setvbuf("line")
-- A process has one locale, and whatever function came before may have set it.
os.setlocale("C")

-- Ending the process would end it for the adapter too.
function os.exit()
  error("os.exit() was called; a function ends by returning", 2)
end

-- A module in C needs Lua's functions from the program that loads it, and finds none in
-- one that Lua is built into.
package.cpath, package.loadlib = "", nil
package.path = path
package.searchers[4], package.searchers[3] = nil, package.searchers[2]
package.searchers[2] = function(name)
  local file, text = native.find(name)
  if not file then
    return text
  end
  local chunk, why = load(text, "@" .. file, "t")
  if not chunk then
    error(format("error loading module '%s':\n\t%s", name, why), 0)
  end
  return chunk, file
end

json = { null = native.null }

function json.array(items)
  return setmetatable(items or {}, native.list)
end

function json.encode(value)
  local text, why = native.encode(value)
  return text or error(why, 2)
end

function json.decode(text)
  if type(text) ~= "string" then
    error("JSON is text, not a " .. type(text), 2)
  end
  local value, why = native.decode(text)
  if why then
    error(why, 2)
  end
  return value
end

-- What is there without a function.
local known = {}
for name in next, globals do
  known[name] = true
end

local _ENV = nil

-- The frames of what is being thrown; the handler of an error has little stack and, where
-- memory ran out, does not run at all.
local frames

local function trace(thrown)
  frames = traceback("", 2)
  return thrown
end

local function message_of(thrown)
  local message = type(thrown) == "table" and thrown.message
  return type(message) == "string" and message or tostring(thrown)
end

local function describe(thrown)
  local kind, message = "error", thrown
  if type(thrown) ~= "string" then
    kind = type(thrown)
    local meta = getmetatable(thrown)
    local name = type(meta) == "table" and rawget(meta, "__name")
    if type(name) == "string" then
      kind = name
    end
    local is_told, told = pcall(message_of, thrown)
    message = is_told and told or "it cannot be told: its own __tostring fails"
  end
  local shown = frames or ""
  -- Up to where the adapter called, and without what the function called of it.
  shown = match(shown, "^(.*)\n\t%[C%]: in [^\n]*\n\trefunction:") or shown
  shown = gsub(shown, "\n\trefunction:[^\n]*", "")
  if shown == "\nstack traceback:" then
    shown = ""
  end
  return false, kind, message, message .. shown
end

local function finish(is_done, ...)
  if is_done then
    return true, ...
  end
  return describe(...)
end

local function protected(body, ...)
  frames = nil
  return finish(xpcall(body, trace, ...))
end

local function refuse(kind, message)
  return false, kind, message, ""
end

local function names_of(space, is_other)
  local names = {}
  for name, value in next, space do
    if type(name) == "string" and type(value) == "function" and is_other(name) then
      names[#names + 1] = name
    end
  end
  sort(names)
  return names
end

-- What a chunk gives under a name: a field of what it returned, or a global.
local function attribute_of(returned, name)
  local found
  if type(returned) == "table" then
    found = returned[name]
  end
  if found == nil then
    found = globals[name]
  end
  return found
end

local function entry_of(returned, attribute)
  if attribute then
    return attribute, attribute_of(returned, attribute)
  end
  local main = attribute_of(returned, "main")
  if main ~= nil then
    return "main", main
  end
  local handler = attribute_of(returned, "handler")
  if handler ~= nil then
    return "handler", handler
  end
  return "main", type(returned) == "function" and returned or nil
end

local entry, is_handler

-- Runs a function's text and finds its entry; what went wrong otherwise.
local function start(text, file, attribute, called_as_handler)
  local chunk, why = load(text, "@" .. file, "t")
  if not chunk then
    return false, "SyntaxError", why, why
  end
  local is_done, returned, message, stack = protected(chunk)
  if not is_done then
    return false, returned, message, stack
  end
  local is_found, name, found, said = protected(entry_of, returned, attribute)
  if not is_found then
    return false, name, found, said
  end
  if found == nil then
    local names = type(returned) == "table" and names_of(returned, function() return true end)
      or names_of(globals, function(it) return not known[it] end)
    return false, "EntryNotFound", name, names
  end
  if type(found) ~= "function" then
    return refuse("EntryNotFound", format("the entry '%s' is no function: it is of type %s", name, type(found)))
  end
  entry, is_handler = found, called_as_handler or not attribute and name == "handler"
  return true
end

-- Runs a module of the image's for what it leaves behind.
local function preload(library)
  return protected(require, library)
end

-- A variable, if it says something.
local function variable(name, otherwise)
  local value = getenv(name)
  return value ~= "" and value or otherwise
end

-- What a handler is given beside the event, as Lambda has it.
local function context_of(id, deadline, caller)
  local name = variable("AWS_LAMBDA_FUNCTION_NAME", "function")
  local region = variable("AWS_REGION", variable("AWS_DEFAULT_REGION", "us-east-1"))
  local account = variable("AWS_ACCOUNT_ID", "012345678912")
  local identity = caller.cognito_identity
  return {
    aws_request_id = id,
    function_name = name,
    function_version = variable("AWS_LAMBDA_FUNCTION_VERSION", "$LATEST"),
    memory_limit_in_mb = variable("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "128"),
    invoked_function_arn = caller.invoked_function_arn
      or format("arn:aws:lambda:%s:%s:function:%s", region, account, name),
    log_group_name = variable("AWS_LAMBDA_LOG_GROUP_NAME", "/aws/lambda/" .. name),
    log_stream_name = variable("AWS_LAMBDA_LOG_STREAM_NAME", "$LATEST"),
    client_context = caller.client_context,
    identity = identity and {
      cognito_identity_id = identity.cognitoIdentityId,
      cognito_identity_pool_id = identity.cognitoIdentityPoolId,
    },
    tenant_id = caller.tenant_id,
    get_remaining_time_in_millis = function()
      return native.remaining(deadline)
    end,
    log = function(message)
      stdout:write(tostring(message), "\n")
    end,
  }
end

-- Calls the entry.
local function call(argument, id, deadline, caller)
  if not is_handler then
    return protected(entry, argument)
  end
  return protected(entry, argument, context_of(id, deadline, caller or {}))
end

local function went_on(thread, is_done, ...)
  if not is_done then
    frames = traceback(thread, "")
    return describe(...)
  end
  -- What it returns is no item: it has ended.
  if status(thread) ~= "dead" then
    return true, { (...) }
  end
  return true
end

-- The next item of a coroutine, in a table; nothing after the last.
local function go_on(thread)
  if status(thread) == "dead" then
    return true
  end
  return went_on(thread, resume(thread))
end

-- Nobody asks for more.
local function stop(thread)
  return protected(close, thread)
end

return start, call, preload, go_on, stop
