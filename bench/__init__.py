"""How fast, how late and how large cdcflow is, measured beside the tools that PostgreSQL brings itself."""
