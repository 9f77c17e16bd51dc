"""Records as tables: for the terminal, and for Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from accomp.core.bench.records.figures import FIGURES, shown
from accomp.core.bench.records.record import BenchRow


def text(lines: Sequence[BenchRow]) -> str:
    """Format a table for each benchmark and spec, under a heading with settings and device."""
    return "\n\n".join(_text(group) for group in groups(lines))


def markdown(lines: Sequence[BenchRow]) -> str:
    """Format the tables as Markdown."""
    return "\n\n".join(_markdown(group) for group in groups(lines))


def groups(lines: Iterable[BenchRow]) -> list[list[BenchRow]]:
    """Group rows that share everything but the case, in order of their first appearance."""
    found: dict[tuple[object, ...], list[BenchRow]] = {}
    for line in lines:
        found.setdefault(line.key[:-1], []).append(line)
    return list(found.values())


def heading(line: BenchRow) -> str:
    """Describe the common properties of a group of rows."""
    settings = "".join(f" --set {setting}" for setting in line.settings)
    return f"{line.bench}: {line.spec}{settings} ({line.where})"


def columns(lines: Sequence[BenchRow]) -> list[str]:
    """List the figures that any of the rows has."""
    return [name for name in FIGURES if any(name in line.figures for line in lines)]


def rows(lines: Sequence[BenchRow]) -> Iterator[list[str]]:
    """Return the header, then the cells of each row; "-" for a missing figure."""
    names = columns(lines)
    yield ["", *(FIGURES[name].heading for name in names)]
    for line in lines:
        yield [line.case, *(shown(line.figures[name]) if name in line.figures else "-" for name in names)]


def aligned(cells: Sequence[Sequence[str]]) -> list[str]:
    """Format rows of equal length as lines of text, the first column left, the others right."""
    widths = [max(len(row[i]) for row in cells) for i in range(len(cells[0]))]
    marks = "<" + ">" * (len(widths) - 1)
    return [
        "  ".join(map(format, row, (f"{mark}{width}" for mark, width in zip(marks, widths, strict=True))))
        for row in cells
    ]


def ruled(cells: Sequence[Sequence[str]]) -> list[str]:
    """Format rows of equal length as lines of a Markdown table."""
    head, *body = [f"| {' | '.join(row)} |" for row in cells]
    return [head, f"|{'|'.join(['---'] + ['---:'] * (len(cells[0]) - 1))}|", *body]


def _text(lines: Sequence[BenchRow]) -> str:
    return "\n".join([heading(lines[0]), *(f"  {row}" for row in aligned(list(rows(lines))))])


def _markdown(lines: Sequence[BenchRow]) -> str:
    return "\n".join([f"**{heading(lines[0])}**", "", *ruled(list(rows(lines)))])
