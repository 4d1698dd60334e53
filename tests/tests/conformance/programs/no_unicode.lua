function main()
  error("half of \xf0\x9f a pair")
end
