function main(args)
  print("out " .. args)
  io.stderr:write("err ", args, "\n")
  return #args
end
