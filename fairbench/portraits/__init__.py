"""The embedded world: a small real diffusion model whose bias is declared, and everything that built it."""
