"""A run, from its settings to its stored records."""
