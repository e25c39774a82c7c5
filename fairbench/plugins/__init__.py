"""How a method is found, and held to its contract."""
