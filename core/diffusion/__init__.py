"""Diffusion of continuous latents: the process, noise levels, denoising of blocks, attention masks."""
