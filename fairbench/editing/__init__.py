"""What several training-free methods share: class prompts, projections, and edits of cross-attention."""
