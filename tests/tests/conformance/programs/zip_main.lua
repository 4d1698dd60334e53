local helper = require("parts.helper")

function main(args)
  return helper.join(args)
end
