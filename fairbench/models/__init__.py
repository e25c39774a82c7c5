"""What generates images: diffusers pipelines with their sampling loop opened up."""
