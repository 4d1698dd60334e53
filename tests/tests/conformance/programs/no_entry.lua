function another(args)
  return args
end
