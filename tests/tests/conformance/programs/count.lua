local calls = 0

function main(args)
  calls = calls + 1
  return { NUMBER, args, calls }
end
