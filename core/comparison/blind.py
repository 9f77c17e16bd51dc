"""Blind listening tests: pairs of accompaniments on the page, answers in a CSV file, statistics here."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from importlib import resources
from pathlib import Path
from typing import Literal, get_args

import numpy as np
from attrs import frozen

from accomp.core.errors import DataError
from accomp.core.evaluation.statistics import Difference, KruskalWallis, differences, kruskal_wallis
from accomp.core.pages.html import Html, table, tag

Preferred = Literal["a", "b", "tie"]
COLUMNS = ("song", "a", "b", "preferred", "listener", "time")
_POINTS = {"a": (1.0, 0.0), "b": (0.0, 1.0), "tie": (0.5, 0.5)}


@frozen
class Answer:
    """A listener's preference between two entries, a and b, for the same song. `time`: ISO 8601."""

    song: str
    a: str
    b: str
    preferred: Preferred
    listener: str = ""
    time: str = ""


@frozen
class Verdict:
    """The result of all answers, in the form of the field's listening studies.

    Attributes:
        trials, share: entry -> its number of comparisons, and the share of these that it won; a tie is half a win.
        test: Kruskal-Wallis over all entries' wins.
        pairs: Wilcoxon's signed-rank test for each pair that was compared, Bonferroni-corrected.
    """

    trials: dict[str, int]
    share: dict[str, float]
    test: KruskalWallis | None
    pairs: list[Difference]


def read_answers(files: Iterable[Path]) -> list[Answer]:
    """Read the files that the page saves. Raises DataError with every line that cannot be read."""
    found: list[Answer] = []
    problems: list[str] = []
    for path in files:
        try:
            with path.open(newline="", encoding="utf-8-sig") as lines:
                rows = csv.DictReader(lines)
                if missing := [name for name in COLUMNS[:4] if name not in (rows.fieldnames or ())]:
                    problems.append(f"no column {', '.join(missing)}; expected {', '.join(COLUMNS)} @ {path}")
                    continue
                for row in rows:
                    if row["preferred"] not in get_args(Preferred) or not row["a"] or not row["b"]:
                        problems.append(
                            f"preferred is {row['preferred']!r} of {row['a']!r} and {row['b']!r}; expected two names "
                            f"and {', '.join(get_args(Preferred))} @ {path}, line {rows.line_num}"
                        )
                        continue
                    found.append(Answer(**{name: row.get(name) or "" for name in COLUMNS}))  # type: ignore[arg-type]
        except (OSError, UnicodeDecodeError, csv.Error) as error:
            problems.append(f"cannot read: {error} @ {path}")
    if problems:
        raise DataError(*problems)
    return found


def verdict(answers: Sequence[Answer], rng: np.random.Generator) -> Verdict:
    """Return wins and tests over all answers; entries in the order of their share."""
    wins: dict[str, dict[str, float]] = {}
    for number, answer in enumerate(answers):
        for name, points in zip((answer.a, answer.b), _POINTS[answer.preferred], strict=True):
            wins.setdefault(name, {})[str(number)] = points
    share = {name: float(np.mean(list(points.values()))) for name, points in wins.items()}
    order = sorted(wins, key=lambda name: -share[name])
    compared = {tuple(sorted((answer.a, answer.b))) for answer in answers if answer.a != answer.b}
    pairs = [(a, b) for i, a in enumerate(order) for b in order[i + 1 :] if tuple(sorted((a, b))) in compared]
    return Verdict(
        {name: len(wins[name]) for name in order},
        {name: share[name] for name in order},
        kruskal_wallis([list(wins[name].values()) for name in order]),
        differences(wins, rng, pairs=pairs),
    )


def listening_test() -> list[Html]:
    """Return the form of the test; its script collects the players of the songs from the page."""
    intro = (
        "Two accompaniments of one song, in random order and without names: which one fits better? The true stem is "
        "one of the entries. Save the answers as CSV; accomp compare ... --answers FILE.csv tests them."
    )
    sides = [
        tag("figure", tag("figcaption", side.upper()), tag("audio", controls=True, id=f"blind-{side}"), class_="player")
        for side in ("a", "b")
    ]
    answers = [
        tag("button", text, type="button", data_preferred=preferred)
        for preferred, text in (("a", "A fits better"), ("tie", "no difference"), ("b", "B fits better"))
    ]
    return [
        tag("p", intro, class_="note"),
        tag(
            "div",
            tag("p", tag("label", "Listener ", tag("input", id="blind-listener", autocomplete="off")), " ",
                tag("output", id="blind-progress")),
            tag("p", id="blind-song", class_="note"),
            tag("div", sides, class_="players"),
            tag("p", answers, class_="buttons"),
            tag("p", tag("button", "Save answers (CSV)", type="button", id="blind-save"), class_="buttons"),
            class_="card",
            id="blind",
        ),
    ]  # fmt: skip


def script() -> str:
    """Return the script behind `listening_test`."""
    return resources.files(__package__).joinpath("blind.js").read_text(encoding="utf-8")


def answer_tables(answers: Sequence[Answer], rng: np.random.Generator) -> list[Html]:
    """Return the result of the answers as tables."""
    if not answers:
        return []
    found = verdict(answers, rng)
    listeners = len({answer.listener for answer in answers})
    test = "too few answers to test" if found.test is None else (
        f"Kruskal-Wallis over {found.test.groups} entries: H = {found.test.h:.2f}, p = {found.test.p:.3g}"
    )  # fmt: skip
    wins = [[name, f"{100 * found.share[name]:.0f} %", found.trials[name]] for name in found.share]
    return [
        tag("p", f"{len(answers)} answers of {listeners} listeners. {test}.", class_="note"),
        tag("div",
            table(["", "won", "comparisons"], wins, caption="Preferred in blind listening", style="numbers narrow"),
            differences_table(found.pairs, "Pairs (Wilcoxon signed rank, Bonferroni)"), class_="card"),
    ]  # fmt: skip


def differences_table(pairs: Sequence[Difference], caption: str) -> Html:
    """Return a table with a row for each pair."""
    rows = [
        [f"{pair.a} against {pair.b}", pair.clips, f"{pair.mean:+.3f}",
         "none" if pair.low is None else f"{pair.low:+.3f} to {pair.high:+.3f}",
         "none" if pair.p is None else f"{pair.p:.3g}"]
        for pair in pairs
    ]  # fmt: skip
    return table(["", "compared", "mean difference", "95 % interval", "p"], rows, caption=caption)
