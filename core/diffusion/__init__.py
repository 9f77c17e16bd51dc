"""Diffusion of continuous latents: the process, its noise levels, how a block is denoised, who sees whom."""
