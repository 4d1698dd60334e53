function main(args)
  return args ~= 0 and main(args) + 1 or 0
end
