"""What reads attributes off images."""
