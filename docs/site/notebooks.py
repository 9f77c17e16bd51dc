"""Hook of mkdocs: docs/notebooks/NAME.ipynb as a page, with outputs where `make notebooks` has executed it."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File

ROOT = Path(__file__).resolve().parents[2]
EXECUTED = ROOT / ".cache" / "notebooks"


def on_files(files, config):
    """Add a page for each notebook, and the pictures of its outputs."""
    for path in sorted((ROOT / "docs" / "notebooks").glob("*.ipynb")):
        pictures: dict[str, bytes] = {}
        parts = [part for cell in latest(path)["cells"] for part in cell_parts(cell, pictures, path.stem)]
        parts.append(f"[Download this notebook]({path.name})")
        files.append(File.generated(config, f"notebooks/{path.stem}.md", content="\n\n".join(parts) + "\n"))
        for name, content in pictures.items():
            files.append(File.generated(config, f"notebooks/{name}", content=content))
    return files


def latest(path: Path) -> dict[str, Any]:
    """The notebook as it was last executed, if its cells are the same as then; else without outputs."""
    notebook = json.loads(path.read_text(encoding="utf-8"))
    executed = EXECUTED / path.name
    if executed.exists():
        done = json.loads(executed.read_text(encoding="utf-8"))
        if sources(done) == sources(notebook):
            return done
    return notebook


def sources(notebook: dict[str, Any]) -> list[str]:
    """The text of every cell."""
    return ["".join(cell["source"]) for cell in notebook["cells"]]


def cell_parts(cell: dict[str, Any], pictures: dict[str, bytes], stem: str) -> Iterator[str]:
    """A cell as Markdown; its pictures go into `pictures`, by the names under which they are shown."""
    text = "".join(cell["source"])
    if cell["cell_type"] == "markdown":
        yield text
        return
    yield f"```python\n{text}\n```"
    outputs = cell.get("outputs", ())
    if printed := "".join("".join(output["text"]) for output in outputs if output.get("name") == "stdout"):
        yield block(printed)
    for output in outputs:
        data = output.get("data", {})
        if "image/png" in data:
            name = f"{stem}-{len(pictures)}.png"
            pictures[name] = base64.b64decode("".join(data["image/png"]))
            yield f"![output]({name})"
        elif "text/html" in data:
            yield "".join(line.strip() for line in "".join(data["text/html"]).splitlines())
        elif "text/plain" in data:
            yield block("".join(data["text/plain"]))


def block(text: str) -> str:
    """Printed text, as it stood."""
    return f"```text\n{text.rstrip()}\n```"
