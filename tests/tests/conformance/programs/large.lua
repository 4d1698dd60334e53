function main(args)
  return ("x"):rep(args)
end
