"""Hook of mkdocs: the reference pages that are made from the source, so that they are never out of date.

reference/spec.md (sections and keys of a spec), reference/plugins.md (built-in plugins and their keys), and
reference/cli.md (commands and options).
"""

from __future__ import annotations

import sys
import tomllib
from pathlib import Path

from mkdocs.structure.files import File

sys.path.insert(0, str(Path(__file__).parent))

from cli_pages import commands
from source import ROOT, config_of, doc, find_class, settings, table, with_real_defaults

SECTIONS = {
    "clock": ("accomp.core.clock", "Clock"),
    "store": ("accomp.core.spec.sections", "StoreSpec"),
    "pairs": ("accomp.core.spec.pairs", "PairRules"),
    "conditions": ("accomp.core.model.conditions", "Conditions"),
    "conditions.context": ("accomp.core.model.conditions", "ContextCondition"),
    "conditions.LABEL": ("accomp.core.model.conditions", "LabelCondition"),
    "conditions.metronome, conditions.chart": ("accomp.core.model.conditions", "TimelineCondition"),
    "model": ("accomp.core.spec.sections", "ModelSpec"),
    "train": ("accomp.core.spec.sections", "TrainSpec"),
    "run": ("accomp.core.spec.sections", "RunSpec"),
    "generate": ("accomp.core.spec.sections", "GenerateSpec"),
    "evaluate": ("accomp.core.spec.sections", "EvaluateSpec"),
    "runtime": ("accomp.core.spec.runtime", "Runtime"),
    "runner": ("accomp.core.spec.runner", "RunnerSpec"),
    "runner.ray": ("accomp.core.spec.runner", "RaySpec"),
    "runner.slurm": ("accomp.core.spec.runner", "SlurmSpec"),
}
WITHOUT_TABLE = {"conditions"}
KINDS = {
    "corpus": "Corpora", "tokenizer": "Tokenizers", "fuser": "Fusers", "backbone": "Backbones",
    "objective": "Objectives", "sampler": "Samplers", "metric": "Metrics", "embedder": "Embedders",
    "follower": "Followers",
}  # fmt: skip


def on_files(files, config):
    """Add the pages."""
    for name, text in (("spec", spec_page()), ("plugins", plugins_page()), ("cli", cli_page())):
        files.append(File.generated(config, f"reference/{name}.md", content=text))
    return files


def spec_page() -> str:
    """Sections and keys of a spec."""
    parts = [
        "# Spec keys",
        "A spec is a TOML file ([Experiments](../guides/experiments.md)). Besides the sections below it has `seed`, "
        "which decides data order, initial weights, dropped conditions and sampling; one section for each part, "
        "`corpus`, `tokenizer`, `fuser`, `backbone`, `objective`, `sampler`, with `plugin = NAME` and the keys of that "
        "[plugin](plugins.md); a list of `[[metric]]`; and `[guidance]` with a scale for each condition. Lengths in "
        'frames may be written as a duration, `"10s"`. `--set section.key=VALUE` overrides a key on the command line.',
    ]
    for name, (module, cls) in SECTIONS.items():
        found = find_class(module, cls)
        assert found is not None, f"{module} has no class {cls}"
        parts += [f"## [{name}]", described(doc(found[1]))]
        if name not in WITHOUT_TABLE:
            parts.append(table(with_real_defaults(settings(found[1]), module, cls)))
    return "\n\n".join(parts) + "\n"


def plugins_page() -> str:
    """Built-in plugins by kind, with their keys."""
    rows = tomllib.loads((ROOT / "registry.toml").read_text(encoding="utf-8"))
    parts = [
        "# Plugins",
        "The parts that a spec may name, and their keys. `accomp plugins` lists them together with those of other "
        "packages. [What is built in](../guides/plugins.md) is the short list; "
        "[Contributing](../contributing.md) shows how to write one.",
    ]
    for kind, title in KINDS.items():
        parts.append(f"## {title}")
        for name, row in rows[kind].items():
            parts.append(f"### {name}")
            extra = f" Needs the extra `{row['extra']}`." if row.get("extra") else ""
            parts.append(f"{row['summary'].rstrip('.')}.{extra}")
            module, _, cls = row["target"].partition(":")
            config = config_of(module, cls)
            if config is not None and (keys := settings(config)):
                parts += [described(doc(config)), table(keys)]
            else:
                parts.append("It has no keys.")
    return "\n\n".join(parts) + "\n"


def described(text: str) -> str:
    """A docstring as Markdown: lines of TOML in it become a block."""
    head, _, block = text.partition("\n\n[")
    if not block:
        return text
    return f"{head}\n\n```toml\n[{block}\n```"


def cli_page() -> str:
    """Commands and options, with the words of their own help."""
    parts = [
        "# Command line",
        "`accomp COMMAND --help` prints the same. SPEC is a spec file or the name of a shipped one.",
    ]
    return "\n\n".join([*parts, *commands()]) + "\n"
