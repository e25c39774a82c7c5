"""Baselines that methods are compared with: one file, one class each."""
