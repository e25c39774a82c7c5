"""Builds the embedded model, its judges and its feature networks from drawn pictures."""
