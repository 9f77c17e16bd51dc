"""Execute the notebooks of docs/ and keep them, with outputs, in .cache/notebooks: `make notebooks`.

At full size they take some minutes on two cores; with ACCOMP_SMALL=1, as the tests have it, well under two.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import nbformat
from nbclient import NotebookClient

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "docs" / "notebooks"


def execute(path: Path, out: Path) -> None:
    """Run all cells of a notebook and write it with their outputs; what fails raises CellExecutionError."""
    notebook = nbformat.read(path, as_version=4)
    NotebookClient(notebook, timeout=1800, resources={"metadata": {"path": str(path.parent)}}).execute()
    out.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(notebook, out)


def main(names: list[str]) -> None:
    """Execute the notebooks of these names, or all."""
    for path in sorted(FOLDER.glob("*.ipynb")):
        if not names or path.stem in names:
            began = time.monotonic()
            execute(path, ROOT / ".cache" / "notebooks" / path.name)
            print(f"{path.name}: executed in {time.monotonic() - began:.0f} s", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
