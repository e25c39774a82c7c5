"""Runs side by side: paired tests, equivalence, a panel of judges, and the gate against a reference."""
