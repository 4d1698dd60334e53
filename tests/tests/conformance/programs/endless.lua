function main(args)
  while args do
  end
  return "over"
end
