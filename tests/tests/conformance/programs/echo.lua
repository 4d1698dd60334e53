function main(args)
  return args
end
