"""TOML files, their sections, and the parts and run folders that a spec builds, for commands."""

from __future__ import annotations

from accomp.core.runs.checkpoint import save_checkpoint
from accomp.core.runs.folder import open_run
from accomp.core.spec.build import build_model, build_tokenizer, check_combination, corpus_at, space_of
from accomp.core.spec.parsing import Problems, plain, strict_converter, structure_fields
from accomp.core.spec.schema import Spec, load_spec, resolve, structure
from accomp.core.spec.toml_files import find_spec, read_toml, toml_text

__all__ = [
    "Problems",
    "Spec",
    "build_model",
    "build_tokenizer",
    "check_combination",
    "corpus_at",
    "find_spec",
    "load_spec",
    "open_run",
    "plain",
    "read_toml",
    "resolve",
    "save_checkpoint",
    "space_of",
    "strict_converter",
    "structure",
    "structure_fields",
    "toml_text",
]
