return { apple = 40, bread = 320 }
