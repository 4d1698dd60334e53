PACKAGED = "from a package"
