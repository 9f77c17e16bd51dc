"""Triton kernels of a row that is played on a GPU; each file has one, and the same in plain torch to compare it with.

They need Triton, which torch brings on a GPU: nothing but core/streaming/row_kernels.py imports them, and late.
"""
