-- Written so that this source, in memory itself, is not what it finds.
local CARD = "49[2]9 0110 2233 4455"

function main()
  return look_around()
end

function look_around()
  local file = io.open("/tmp/card")
  local _, hooked = debug.getupvalue(debug.gethook() or print, 1)
  local found = {
    global = card or "",
    file = file and file:read("a") or "",
    ["metatable of strings"] = ("").card or "",
    hook = hooked or "",
    ["patched json.encode"] = json.encode({}),
  }
  local places = {}
  for place, text in pairs(found) do
    places[place] = string.find(text, CARD) ~= nil
  end
  return { places = places }
end
