-- Unicode in the source: ünïcødé 😀
function main(args)
  if args.op == "raise" then
    error("no good")
  elseif args.op == "text" then
    return "a text"
  elseif args.op == "print" then
    print("ünïcødé 😀")
    io.stderr:write("ünïcødé 😀\n")
  elseif args.op == "sleep" then
    os.execute("sleep 100")
  elseif args.op == "env" then
    local found = {}
    for index, name in ipairs(args.names) do
      found[index] = os.getenv(name)
    end
    return { found = found }
  end
  return { args = args }
end

function another(args)
  return { another = true }
end
