"""A comparison with peers as a picture: for each load a group of bars, one for each proxy."""

from collections.abc import Iterator

from benchmarks.comparison import Comparison
from benchmarks.peerlist import APP, LANE
from benchmarks.svg import TITLE, begin, text

WIDTH, BAR, HEAD, GAP = 420, 18, 26, 14
NAMES, VALUES = 120, 56  # left and right of the bars
COLUMNS = 2
COLOURS = {LANE: "#0072b2", APP: "#56b4e9"}
OTHERS = "#9ca3af"
#: A bar is cut beyond so many of trillm's, or one slow proxy leaves nothing of the rest.
CUT = 3.0


def draw_comparison(comparison: Comparison) -> str:
    """Return an SVG of CPU costs."""
    names = comparison.scenarios
    panel_height = HEAD + BAR * len(comparison.proxies) + GAP
    width, height = COLUMNS * WIDTH, TITLE + -(-len(names) // COLUMNS) * panel_height
    environment = comparison.environment
    title = f"CPU µs per request, per chunk of streams ({environment.cores} cores, {environment.date[:10]})"
    parts = begin(title, width, height)
    for index, name in enumerate(names):
        x, y = index % COLUMNS * WIDTH, TITLE + index // COLUMNS * panel_height
        parts += [f'<g transform="translate({x},{y})">', *_panel(comparison, name), "</g>"]
    return "\n".join([*parts, "</svg>", ""])


def _panel(comparison: Comparison, scenario: str) -> Iterator[str]:
    yield text(NAMES, 17, scenario, size=12, anchor="start", bold=True)
    costs = {face: cost for face in comparison.proxies if (cost := comparison.cpu_us(face, scenario)) is not None}
    if not costs:
        return
    longest = min(max(costs.values()), CUT * costs.get(LANE, max(costs.values())))
    for index, (face, cost) in enumerate(sorted(costs.items(), key=lambda each: each[1])):
        y = HEAD + index * BAR
        long = (WIDTH - NAMES - VALUES) * min(cost / longest, 1.0) if longest else 0.0
        colour = COLOURS.get(face, OTHERS)
        yield text(NAMES - 6, y + BAR - 6, face, anchor="end", bold=face in COLOURS)
        yield f'<rect x="{NAMES}" y="{y + 1}" width="{long:.1f}" height="{BAR - 4}" fill="{colour}"/>'
        yield text(NAMES + long + 4, y + BAR - 6, ("» " if cost > longest else "") + f"{cost:.0f}", anchor="start")
