return function(names)
  local values = {}
  for at, name in ipairs(names) do
    values[at] = os.getenv(name) or json.null
  end
  return values
end
