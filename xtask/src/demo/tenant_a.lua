function main(args)
  if args == nil then
    return look_around()                               -- tenant B's code, see below
  end
  local number = args.card
  card = number                                        -- a global
  io.open("/tmp/card", "w"):write(number):close()      -- a file
  getmetatable("").__index = { card = number }         -- the metatable of strings
  debug.sethook(function() return number end, "l")     -- a hook
  json.encode = function() return number end           -- a patched library
  return { charged = 42, card = "..." .. string.sub(number, -4) }
end
