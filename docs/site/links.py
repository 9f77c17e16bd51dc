"""Hook of mkdocs: pages of the site that lie outside docs/, and links that are right in the repository and on the site.

Links in Markdown are relative to their file, as every viewer of the repository follows them. On the site CHANGELOG.md,
CONTRIBUTING.md and benchmarks/results/ are pages too. Links to any other file of the repository become plain text.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path

from mkdocs.structure.files import File

ROOT = Path(__file__).resolve().parents[2]
PAGES = {"CHANGELOG.md": "changelog.md", "CONTRIBUTING.md": "contributing.md"}
PAGES |= {f"benchmarks/results/{path.name}": f"results/{path.name}" for path in ROOT.glob("benchmarks/results/*.md")}
LINK = re.compile(r"(!?)\[((?:[^\[\]]|\[[^\]]*\])*)\]\(([^)\s#]+)(#[^)\s]*)?\)")


def on_files(files, config):
    """Add the pages that lie outside docs/."""
    for source, uri in PAGES.items():
        files.append(File.generated(config, uri, abs_src_path=str(ROOT / source)))
    return files


def on_page_markdown(markdown: str, page, config, files) -> str:
    """Lead every link to the site's page of the file that it names."""
    uri = page.file.src_uri
    here = {to: source for source, to in PAGES.items()}.get(uri, f"docs/{uri}")

    def mended(match: re.Match[str]) -> str:
        image, text, target, anchor = match.groups()
        if "://" in target or target.startswith(("mailto:", "/")):
            return match[0]
        named = posixpath.normpath(posixpath.join(posixpath.dirname(here), target))
        place = PAGES.get(named, named.removeprefix("docs/") if named.startswith("docs/") else None)
        if place is None:
            return match[0] if not (ROOT / named).exists() else text if "`" in text or " " in text else f"`{named}`"
        relative = posixpath.relpath(place, posixpath.dirname(uri) or ".")
        return f"{image}[{text}]({relative}{anchor or ''})"

    return LINK.sub(mended, markdown)
