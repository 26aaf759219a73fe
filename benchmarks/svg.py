"""Draws line charts as SVG text, in as few lines as do it readably. Knows nothing of what is drawn."""

import math
from collections.abc import Iterator, Sequence
from html import escape

from attrs import frozen

WIDTH, HEIGHT = 350, 250  # of a panel, outside
LEFT, RIGHT, TOP, BOTTOM = 62, 14, 34, 44  # of its margins
TITLE, LEGEND = 34, 30  # rows above and below the panels
FONT = "system-ui, -apple-system, 'Segoe UI', 'DejaVu Sans', sans-serif"


@frozen
class Line:
    """One line of a chart.

    Args:
        label: for the legend; lines of one label have one colour and share one entry.
        colour: of CSS.
        values: one for each place on the x axis; None is a gap.
        dashed: told apart by more than colour.
    """

    label: str
    colour: str
    values: Sequence[float | None]
    dashed: bool = False


@frozen
class Panel:
    """One chart.

    Args:
        title: above it.
        unit: of the y axis.
        lines: what it shows.
        floor: where the y axis begins, logarithmic then: what is below is drawn there. None: linear, from zero.
    """

    title: str
    unit: str
    lines: Sequence[Line]
    floor: float | None = None


def draw(
    title: str, x_title: str, x_labels: Sequence[str], panels: Sequence[Panel], *, columns: int = 3, dashes: str = ""
) -> str:
    """Return a picture of panels side by side that share the x axis' labels and one legend.

    Args:
        title: above all.
        x_title: of every panel's x axis.
        x_labels: the places on it.
        panels: row by row.
        columns: panels in a row.
        dashes: what a dashed line says, for the legend.
    """
    rows = math.ceil(len(panels) / columns)
    width, height = columns * WIDTH, TITLE + rows * HEIGHT + LEGEND
    parts = begin(title, width, height)
    for index, panel in enumerate(panels):
        x, y = index % columns * WIDTH, TITLE + index // columns * HEIGHT
        parts += [f'<g transform="translate({x},{y})">', *_panel(panel, x_title, x_labels), "</g>"]
    parts += [*_legend(panels, dashes, width, height - 12), "</svg>", ""]
    return "\n".join(parts)


def begin(title: str, width: float, height: float) -> list[str]:
    """Return the beginning of a picture, up to its title; ``</svg>`` is left to the caller."""
    size = f'viewBox="0 0 {width} {height}" width="{width}" height="{height}"'
    style = f'font-family="{escape(FONT)}" font-size="11" fill="#1f2937"'
    return [
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} {style}>',
        f'<rect width="{width}" height="{height}" fill="white"/>',
        text(width / 2, 23, title, size=15, bold=True),
    ]


def _panel(panel: Panel, x_title: str, x_labels: Sequence[str]) -> Iterator[str]:
    yield text(WIDTH / 2, 20, panel.title, size=12, bold=True)
    yield text(14, (TOP + HEIGHT - BOTTOM) / 2, panel.unit, turned=True)
    yield text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 8, x_title)
    xs = [LEFT + (WIDTH - LEFT - RIGHT) * (i + 0.5) / len(x_labels) for i in range(len(x_labels))]
    yield from (text(x, HEIGHT - BOTTOM + 15, label) for x, label in zip(xs, x_labels, strict=True))
    scale = Scale.over([value for line in panel.lines for value in line.values if value is not None], panel.floor)
    if scale is None:
        yield text(WIDTH / 2, HEIGHT / 2, "not available")
        return
    for tick in scale.ticks():
        y = scale.y(tick)
        yield f'<path d="M{LEFT} {y:.1f}H{WIDTH - RIGHT}" stroke="#e5e7eb"/>'
        yield text(LEFT - 6, y + 4, scale.label(tick), anchor="end")
    for line in panel.lines:
        yield from _line(line, xs, scale)


def _line(line: Line, xs: Sequence[float], scale: "Scale") -> Iterator[str]:
    path, pen = "", "M"
    for x, value in zip(xs, line.values, strict=True):
        if value is None:
            pen = "M"
            continue
        path += f"{pen}{x:.1f} {scale.y(value):.1f}"
        pen = "L"
        yield f'<circle cx="{x:.1f}" cy="{scale.y(value):.1f}" r="3" fill="{line.colour}"/>'
    yield _stroke(path, line.colour, dashed=line.dashed)


def _stroke(path: str, colour: str, *, dashed: bool = False) -> str:
    dash = ' stroke-dasharray="5 4"' if dashed else ""
    return f'<path d="{path}" fill="none" stroke="{colour}" stroke-width="2"{dash}/>'


def _legend(panels: Sequence[Panel], dashes: str, width: float, y: float) -> Iterator[str]:
    entries = {line.label: line.colour for panel in panels for line in panel.lines}
    entries |= {dashes: "#1f2937"} if dashes else {}
    places = [30 + 6.2 * len(label) for label in entries]
    x = (width - sum(places) - 20 * (len(places) - 1)) / 2
    for (label, colour), place in zip(entries.items(), places, strict=True):
        yield _stroke(f"M{x:.1f} {y - 4}h24", colour, dashed=label == dashes)
        yield text(x + 30, y, label, anchor="start")
        x += place + 20


@frozen
class Scale:
    """The y axis of a panel.

    Args:
        low: at its bottom.
        high: at its top.
        log: see :class:`Panel`.
    """

    low: float
    high: float
    log: bool

    @classmethod
    def over(cls, values: Sequence[float], floor: float | None) -> "Scale | None":
        """Return a scale up to a round number that holds all ``values``; None if there are none."""
        if not values:
            return None
        if floor is None:
            return cls(0.0, _above(max(*values, 1e-9), (1, 1.6, 2, 3, 4, 6, 8)), log=False)
        return cls(floor, _above(max(*values, floor * 10), (1, 2, 5)), log=True)

    def y(self, value: float) -> float:
        """Return the place of ``value`` in a panel."""
        value = max(value, self.low)
        share = (self._measure(value) - self._measure(self.low)) / (self._measure(self.high) - self._measure(self.low))
        return (HEIGHT - BOTTOM) - share * (HEIGHT - BOTTOM - TOP)

    def _measure(self, value: float) -> float:
        return math.log10(value) if self.log else value

    def ticks(self) -> list[float]:
        """Return where lines are drawn."""
        if not self.log:
            return [self.low + (self.high - self.low) * i / 4 for i in range(5)]
        decades = range(round(math.log10(self.low)), math.floor(math.log10(self.high) + 1e-9) + 1)
        return [10.0**exponent for exponent in decades]

    def label(self, tick: float) -> str:
        """Return what stands beside a tick."""
        words = f"{tick / 1000:g}k" if tick >= 10_000 else f"{tick:g}"
        return f"≤ {words}" if self.log and tick == self.low else words


def _above(value: float, steps: Sequence[float]) -> float:
    """Return the smallest of ``steps`` times a power of ten that is not below ``value``."""
    magnitude = 10.0 ** math.floor(math.log10(value))
    return next(step * magnitude for step in (*steps, 10) if step * magnitude >= value * (1 - 1e-9))


def text(
    x: float, y: float, words: str, *, size: int = 11, anchor: str = "middle", bold: bool = False, turned: bool = False
) -> str:
    """Return some words at a place."""
    weight = ' font-weight="600"' if bold else ""
    turn = f' transform="rotate(-90 {x:.1f} {y:.1f})"' if turned else ""
    place = f'x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="{size}"'
    return f"<text {place}{weight}{turn}>{escape(words)}</text>"
