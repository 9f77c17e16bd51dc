"""The documentation as text: its pages, their links, fenced blocks, and command lines."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]
FENCE = re.compile(r"^( *)```(\w*)[^\n]*\n(.*?)^\1```", re.MULTILINE | re.DOTALL)
INLINE = re.compile(r"(?<!`)`([^`\n]+)`(?!`)")


class Block(NamedTuple):
    """A fenced block of a page."""

    page: str
    language: str
    text: str


def pages() -> dict[str, str]:
    """Every page by its path from the project's folder; of a notebook its Markdown and code cells, fenced."""
    found = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")]
    found += sorted((ROOT / "docs").rglob("*.md"))
    texts = {path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8") for path in found}
    for path in sorted((ROOT / "docs" / "notebooks").glob("*.ipynb")):
        texts[path.relative_to(ROOT).as_posix()] = "\n\n".join(cells(path))
    return texts


def cells(path: Path) -> Iterator[str]:
    """The cells of a notebook as Markdown."""
    for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
        text = "".join(line for line in cell["source"] if not line.startswith("%"))
        yield f"```python\n{text}\n```" if cell["cell_type"] == "code" else text


PAGES = pages()


def blocks(*languages: str) -> list[Block]:
    """The fenced blocks in these languages, of all pages."""
    return [
        Block(page, match[2], match[3])
        for page, text in PAGES.items()
        for match in FENCE.finditer(text)
        if match[2] in languages
    ]


def prose(text: str) -> str:
    """A page without its blocks, fenced and indented."""
    text = FENCE.sub("", text)
    return "\n".join(line for line in text.splitlines() if not line.startswith("    ") or line.lstrip().startswith("-"))


def headings(text: str) -> set[str]:
    """The anchors of a page, as python-markdown and GitHub make them for plain headings."""
    found: set[str] = set()
    for line in FENCE.sub("", text).splitlines():
        if match := re.match(r"#+ +(.*)", line):
            plain = re.sub(r"[^\w\s-]", "", match[1].lower()).strip()
            found.add(re.sub(r"[\s]+", "-", plain))
    return found


def command_lines(text: str) -> list[str]:
    """Lines of indented and fenced shell blocks that run accomp, continued lines joined, comments taken off."""
    shell = "\n".join(match[3] for match in FENCE.finditer(text) if match[2] in ("", "sh", "bash", "console"))
    indented = "\n".join(line[4:] for line in FENCE.sub("", text).splitlines() if line.startswith("    "))
    lines = f"{shell}\n{indented}".replace("\\\n", " ").splitlines()
    stripped = (re.sub(r"^(?:\$ )?(?:\.venv/bin/)?", "", line.strip()) for line in lines)
    return [re.sub(r"\s+#.*", "", line) for line in stripped if line.startswith("accomp ")]


def inline_commands(text: str) -> list[str]:
    """Commands in the text itself: `accomp stream`."""
    return [match[1] for match in INLINE.finditer(prose(text)) if match[1].startswith("accomp ")]
