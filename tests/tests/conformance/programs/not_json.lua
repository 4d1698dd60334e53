function main(args)
  return { inside = main }
end
