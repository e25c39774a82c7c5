"""A run on disk: every file by name, the schemas, reading back and migrating."""
