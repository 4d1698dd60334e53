error("not to be loaded")

function main(args)
  return args
end
