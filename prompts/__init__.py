"""Prompt suites: versioned YAML data, no code."""
