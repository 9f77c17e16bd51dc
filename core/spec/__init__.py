"""Spec files: their contents, parsing and validation, and the construction of the parts they name."""
