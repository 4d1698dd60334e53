require("not_there")
