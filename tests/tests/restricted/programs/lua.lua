-- Leaves what it can, looks for what is left, and takes more memory than there is.
function main(args)
  if args.op == 'leave' then
    kept = 'hunter2'
    local refused = json.array({})
    for _, place in ipairs(args.places) do
      local made = string.format(
        "mkdir -p %s/deep/er && echo hunter2 > %s/deep/er/file && chmod 0 %s/deep", place, place, place)
      if not os.execute('(' .. made .. ') 2>/dev/null') then table.insert(refused, place) end
    end
    os.execute('setsid sleep 1000 >/dev/null 2>&1 &')
    local status = io.open('/proc/self/status'):read('a')
    return { refused = refused, status = status }
  elseif args.op == 'look' then
    local found = json.array({})
    for line in io.popen('ls -A ' .. table.concat(args.places, ' ')):lines() do
      -- The names of the places themselves, and what stands between them.
      if line ~= '' and not line:match('^/.*:$') then table.insert(found, line) end
    end
    return { found = found, kept = kept or json.null }
  end
  local held = {}
  while true do table.insert(held, string.rep('x', 1 << 20) .. #held) end
end
