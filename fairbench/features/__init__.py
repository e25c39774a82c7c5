"""Image and text features: CLIP-like and self-supervised networks."""
