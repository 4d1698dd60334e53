local function inner(args)
  error("refused: " .. args)
end

function main(args)
  local value = inner(args)
  return value
end
