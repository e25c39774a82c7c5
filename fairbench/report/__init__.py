"""What a person reads after a run: tables, before/after pictures, training curves, per-prompt plots."""
