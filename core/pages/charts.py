"""Charts as inline SVG, coloured by the page's style sheet so that they follow light and dark."""

from __future__ import annotations

import math
from collections.abc import Sequence

from attrs import frozen

from accomp.core.pages.html import Html, scroll_box, tag

WIDTH, HEIGHT = 720, 300
LEFT, RIGHT, TOP, BOTTOM = 64, 16, 14, 44
NARROW = 400
"""Width of a chart that stands beside text."""


@frozen
class Curve:
    """A curve. `style` is a class of the style sheet.

    Attributes:
        dots: mark each point.
        joined: draw the line between the points.
        ranges: (x, low, high) of the intervals behind the points.
    """

    name: str
    points: Sequence[tuple[float, float]]
    style: str
    dots: bool = False
    joined: bool = True
    ranges: Sequence[tuple[float, float, float]] = ()


@frozen
class Rule:
    """A straight line at one value, named in the legend. `fine`: dotted instead of dashed."""

    name: str
    at: float
    style: str
    fine: bool = False

    @property
    def dash(self) -> str:
        """The class of its line style."""
        return "fine" if self.fine else "dashed"


@frozen
class Interval:
    """A mean with the two ends of its interval."""

    name: str
    mean: float
    low: float
    high: float
    style: str


@frozen
class Bars:
    """One value a group. `style` is a class of the style sheet."""

    name: str
    values: Sequence[float]
    style: str


@frozen
class _Scale:
    """[low, high] -> [start, end] in pixels; to their middle where low and high are the same."""

    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        share = (value - self.low) / (self.high - self.low) if self.high > self.low else 0.5
        return round(self.start + share * (self.end - self.start), 1)


def ticks(low: float, high: float, about: int = 5) -> list[float]:
    """Return about `about` round numbers in [low, high]; their distance is 1, 2 or 5 times a power of ten."""
    if not high > low:
        return [low]
    raw = (high - low) / about
    power = 10.0 ** math.floor(math.log10(raw))
    step = power * next(m for m in (1, 2, 5, 10) if m * power >= raw * 0.999)
    first = math.ceil(low / step - 1e-9)
    return [round(i * step, 12) for i in range(first, math.floor(high / step + 1e-9) + 1)]


def line_chart(title: str, lines: Sequence[Curve], rules: Sequence[Rule], *, x: str, y: str) -> Html:
    """Draw curves and horizontal rules. All values are finite, and at least one curve has points."""
    xs = [px for line in lines for px, _ in line.points]
    ys = [py for line in lines for _, py in line.points] + [rule.at for rule in rules]
    ys += [end for line in lines for _, *ends in line.ranges for end in ends]
    alone = 0.5 * (min(xs) == max(xs))
    across = _Scale(min(xs) - alone, max(xs) + alone, LEFT, WIDTH - RIGHT)
    up = _padded(min(ys), max(ys), HEIGHT - BOTTOM, TOP)
    marks: list[Html] = []
    for rule in rules:
        at = up(rule.at)
        marks.append(tag("line", x1=LEFT, x2=WIDTH - RIGHT, y1=at, y2=at, class_=f"rule {rule.style} {rule.dash}"))
    for line in lines:
        points = [(across(px), up(py)) for px, py in line.points]
        for at, low, high in line.ranges:
            ends = {"x1": across(at), "x2": across(at), "y1": up(low), "y2": up(high)}
            marks.append(tag("line", class_=f"whisker {line.style}", **ends))
        if line.joined:
            path = " ".join(f"{px},{py}" for px, py in points)
            marks.append(tag("polyline", points=path, class_=f"curve {line.style}"))
        if line.dots:
            marks += [tag("circle", cx=px, cy=py, r=3, class_=f"dot {line.style}") for px, py in points]
    axes = [_x_axis(across, x), _y_axis(up, y)]
    legend = [(line.name, line.style, "" if line.joined else "dotted") for line in lines]
    legend += [(rule.name, rule.style, rule.dash) for rule in rules]
    return _figure(title, [*axes, *marks], legend)


def histogram(title: str, values: Sequence[float], rules: Sequence[Rule], *, x: str, bins: int = 48) -> Html:
    """Draw a histogram with vertical rules; the last bar counts the values beyond the axis, too."""
    ordered = sorted(values)
    top = max(
        1.15 * max((rule.at for rule in rules), default=0.0), 1.1 * ordered[int(0.995 * (len(ordered) - 1))], 1e-9
    )
    counts = [0] * bins
    for value in values:
        counts[min(bins - 1, max(0, int(value / top * bins)))] += 1
    across = _Scale(0.0, top, LEFT, WIDTH - RIGHT)
    up = _Scale(0.0, max(counts) * 1.05, HEIGHT - BOTTOM, TOP)
    marks: list[Html] = []
    for i, count in enumerate(counts):
        if count:
            start, end = across(i * top / bins), across((i + 1) * top / bins)
            height = max(1.0, up(0) - up(count))
            box = {"x": start, "y": up(0) - height, "width": max(1.0, end - start - 1), "height": height}
            marks.append(tag("rect", class_="bar", **box))
    for rule in rules:
        at = across(rule.at)
        marks.append(tag("line", x1=at, x2=at, y1=TOP, y2=HEIGHT - BOTTOM, class_=f"rule {rule.style} {rule.dash}"))
    axes = [_x_axis(across, x), _y_axis(up, "steps")]
    return _figure(title, [*axes, *marks], [(rule.name, rule.style, rule.dash) for rule in rules])


def interval_chart(
    title: str, rows: Sequence[Interval], *, x: str, low: float, high: float, narrow: bool = False
) -> Html:
    """Draw a dot for each mean and a bar for its interval, one row each, between `low` and `high`.

    `x` names the axis, which has no name where it is empty. `narrow`: for a place beside text.
    """
    width, row_height = (NARROW, 30) if narrow else (WIDTH, 40)
    floor = TOP + row_height * len(rows)
    longest = max(len(row.name) for row in rows)
    left = min(width // 2, max(0 if narrow else 150, 24 + (8 if narrow else 9) * longest))
    across = _Scale(low, high, left, width - RIGHT - 44)
    marks: list[Html] = []
    for i, row in enumerate(rows):
        y = TOP + row_height * i + row_height // 2
        marks += [
            tag("text", row.name, x=left - 12, y=y + 4, text_anchor="end", class_="name"),
            tag("line", x1=across(row.low), x2=across(row.high), y1=y, y2=y, class_=f"range {row.style}"),
            tag("circle", cx=across(row.mean), cy=y, r=6, class_=f"dot {row.style}"),
            tag("text", f"{row.mean:.2f}", x=across(row.high) + 10, y=y + 4, class_="value"),
        ]
    axis = _x_axis(across, x, floor=floor, about=4 if narrow else 7)
    return _figure(title, [axis, *marks], [], height=floor + (BOTTOM if x else BOTTOM // 2 + 2), width=width)


def bar_chart(title: str, groups: Sequence[str], series: Sequence[Bars], *, y: str, top: float) -> Html:
    """Draw bars from 0 to `top`, those of a group side by side, each below its value without decimals."""
    across = _Scale(0.0, len(groups), LEFT, WIDTH - RIGHT)
    floor = 180  # low, since a page may have many
    up = _Scale(0.0, top * 1.1, floor, TOP)
    marks: list[Html] = []
    width = 0.8 / len(series)
    for g, group in enumerate(groups):
        middle = across(g + 0.5)
        marks.append(tag("text", group, x=middle, y=floor + 18, text_anchor="middle"))
        for i, bars in enumerate(series):
            start, end = across(g + 0.1 + i * width), across(g + 0.1 + (i + 1) * width)
            value = min(bars.values[g], top)
            box = {"x": start, "y": up(value), "width": max(1.0, end - start - 2), "height": up(0) - up(value)}
            marks.append(tag("rect", class_=f"bar {bars.style}", **box))
            place = {"x": (start + end) / 2 - 1, "y": up(value) - 4}
            marks.append(tag("text", f"{bars.values[g]:.0f}", text_anchor="middle", class_="value", **place))
    return _figure(title, [_y_axis(up, y), *marks], [(bars.name, bars.style, "") for bars in series], height=floor + 28)


def _padded(low: float, high: float, start: float, end: float) -> _Scale:
    margin = 0.05 * (high - low) or max(0.05 * abs(high), 0.5)
    return _Scale(low - margin, high + margin, start, end)


def _x_axis(across: _Scale, label: str, *, floor: float = HEIGHT - BOTTOM, about: int = 7) -> Html:
    marks: list[Html] = []
    for value in ticks(across.low, across.high, about):
        at = across(value)
        marks.append(tag("line", x1=at, x2=at, y1=TOP, y2=floor, class_="grid"))
        marks.append(tag("text", _number(value), x=at, y=floor + 18, text_anchor="middle"))
    middle = (across.start + across.end) / 2
    name = tag("text", label, x=middle, y=floor + 38, text_anchor="middle", class_="axis") if label else None
    return tag("g", marks, name)


def _y_axis(up: _Scale, label: str) -> Html:
    marks: list[Html] = []
    for value in ticks(up.low, up.high):
        at = up(value)
        marks.append(tag("line", x1=LEFT, x2=WIDTH - RIGHT, y1=at, y2=at, class_="grid"))
        marks.append(tag("text", _number(value), x=LEFT - 8, y=at + 4, text_anchor="end"))
    middle = (up.start + up.end) / 2
    turned = f"rotate(-90 14 {middle})"
    return tag("g", marks, tag("text", label, x=14, y=middle, text_anchor="middle", transform=turned, class_="axis"))


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:g}"


def _figure(
    title: str, marks: Sequence[Html], legend: Sequence[tuple[str, str, str]], *, height: int = HEIGHT,
    width: int = WIDTH,
) -> Html:  # fmt: skip
    drawing = tag(
        "svg", tag("title", title), list(marks), viewBox=f"0 0 {width} {height}", role="img",
        class_="narrow-chart" if width == NARROW else None,
    )  # fmt: skip
    keys = [
        tag("li", tag("span", class_=f"key {style} {dash}".strip(), aria_hidden="true"), n) for n, style, dash in legend
    ]
    return tag(
        "figure",
        tag("figcaption", title),
        drawing if width == NARROW else scroll_box(drawing, title),
        tag("ul", keys, class_="legend") if keys else None,
    )
