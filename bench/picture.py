"""The figures as a picture for the README: readable on a light and on a dark page.

A bar is as long as the table's ratio: the median of the ratios to NGINX within each round, which
is not the ratio of the two medians. The figure beside it is the table's median.

`python -m bench.picture bench.json bench.svg` draws a result again.
"""

import importlib
import json
import sys
from pathlib import Path
from typing import Any, Dict, NamedTuple, Sequence

from bench.report import FIGURES, by_protocol, ratios_of
from bench.servers import TITLES
from bench.tools import BenchError

#: Mid-tones on a transparent ground: contrast above 4 on white and on near-black.
INK = "#768390"
COLOURS = {"direct": "#9aa4ae", "pupgevent": "#1f9e6e",
           "earlier": "#8fcfb6", "nginx": "#4a7fd0", "haproxy": "#d08a2e"}
STYLE = {
    "svg.fonttype": "none",     # text stays text: a tenth of the size, and selectable
    "svg.hashsalt": "pupgevent",  # the same figures make the same file
    "font.family": ["sans-serif"], "font.sans-serif": ["DejaVu Sans", "Verdana", "Arial"],
    "font.size": 10, "text.color": INK, "xtick.color": INK, "ytick.color": INK,
}
BAR = 0.2
INCHES_PER_ROW = 0.8


class Panel(NamedTuple):
    #: With a place for the protocol.
    title: str
    #: Of a case the first of these that it has.
    figures: Sequence[str]


PANELS = (
    Panel("%s, rate to NGINX's in the round: longer is better", ["rate"]),
    Panel("%s, CPU and memory to NGINX's: shorter is better", ["cpu", "memory"]),
)


def require() -> None:
    """Raises BenchError with what to install where matplotlib is missing."""
    library("matplotlib")


def library(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise BenchError("%s: a picture needs matplotlib: pip install matplotlib" % error) from None


def draw(result: Dict[str, Any], path: Path) -> None:
    """Two panels of grouped bars for each protocol, a row for each case; the suffix of the path
    says which format.
    """
    groups = [(protocol, [case for case in cases if is_drawn(case)])
              for protocol, cases in by_protocol(result)]
    groups = [(protocol, cases) for protocol, cases in groups if cases]
    if not groups:
        raise BenchError("a picture needs NGINX's rate or memory in at least one case")
    library("matplotlib").use("agg")
    pyplot = library("matplotlib.pyplot")
    rows = [len(cases) for _, cases in groups]
    with pyplot.rc_context(STYLE):
        figure, axes = pyplot.subplots(
            len(groups), len(PANELS), squeeze=False, gridspec_kw={"height_ratios": rows},
            figsize=(11, 0.5 + 0.5 * len(groups) + INCHES_PER_ROW * sum(rows)))
        for line, (protocol, cases) in zip(axes, groups):
            for ax, panel in zip(line, PANELS):
                draw_panel(ax, panel, protocol, cases)
            name_rows(line[0], cases)
        legend(figure, pyplot, result)
        save(figure, path)
        pyplot.close(figure)


def is_drawn(case: Dict[str, Any]) -> bool:
    return any(figure_of(panel, case) for panel in PANELS)


def figure_of(panel: Panel, case: Dict[str, Any]) -> str:
    """Empty where NGINX, which gives the scale, has none of the panel's figures."""
    reference = case["medians"].get("nginx", {})
    return next((name for name in panel.figures if reference.get(name)), "")


def draw_panel(ax: Any, panel: Panel, protocol: str, cases: Sequence[Dict[str, Any]]) -> None:
    longest = [draw_case(ax, panel, case, row) for row, case in enumerate(cases)]
    ax.set_xlim(0, 1.2 * max(longest + [1.0]))  # room for the text beside the longest bar
    ax.set_ylim(len(cases) - 0.5, -0.5)
    ax.set_title(panel.title % protocol.upper(), loc="left", fontsize=11)
    ax.set_xticks([])
    ax.set_yticks([])
    for side in ("top", "right", "left", "bottom"):
        ax.spines[side].set_visible(False)


def draw_case(ax: Any, panel: Panel, case: Dict[str, Any], row: int) -> float:
    """Returns the length of the longest bar; 0 where there is nothing to draw."""
    name = figure_of(panel, case)
    lengths = lengths_of(case, name)
    for at, (way, length) in enumerate(lengths.items()):
        y = row + (at - (len(lengths) - 1) / 2) * BAR
        ax.barh(y, length, BAR * 0.86, color=COLOURS[way])
        ax.annotate(FIGURES[name].text(case["medians"][way][name]), (length, y), xytext=(4, 0),
                    textcoords="offset points", va="center", fontsize=8.5)
    return max(lengths.values(), default=0.0)


def lengths_of(case: Dict[str, Any], figure: str) -> Dict[str, float]:
    """Of the bar of each way that has the figure, NGINX's being 1."""
    rounds = case["rounds"]
    ratios = {way: ratios_of(rounds[way], rounds["nginx"]) for way in TITLES if way in rounds}
    return {way: found[figure] for way, found in ratios.items() if figure in found}


def name_rows(ax: Any, cases: Sequence[Dict[str, Any]]) -> None:
    ax.set_yticks(range(len(cases)))
    ax.set_yticklabels([case["title"].replace(", ", ",\n").replace(" per ", "\nper ")
                        for case in cases])
    ax.tick_params(length=0)


def legend(figure: Any, pyplot: Any, result: Dict[str, Any]) -> None:
    shown = [way for way in TITLES if any(way in case["medians"] for case in result["cases"])]
    handles = [pyplot.Rectangle((0, 0), 1, 1, color=COLOURS[way]) for way in shown]
    figure.tight_layout(rect=(0, 0, 1, 1 - 0.4 / figure.get_figheight()))
    figure.legend(handles, [label(way, result) for way in shown], loc="upper center",
                  ncol=len(shown), frameon=False)


def label(way: str, result: Dict[str, Any]) -> str:
    versions = result["versions"]
    if way == "pupgevent":
        return "pupgevent on Python %s" % versions.get("python", "")
    return ("%s %s" % (TITLES[way], versions.get(way, ""))).strip()


def save(figure: Any, path: Path) -> None:
    svg = path.suffix == ".svg"
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        figure.savefig(str(path), transparent=True, dpi=110,
                       metadata={"Date": None} if svg else None)
    except ValueError as error:
        raise BenchError("%s: %s" % (path, error)) from error


def main(argv: Sequence[str]) -> int:
    if len(argv) != 2:
        print("Usage: python -m bench.picture RESULT.json PICTURE", file=sys.stderr)
        return 2
    try:
        draw(json.loads(Path(argv[0]).read_text(encoding="utf-8")), Path(argv[1]))
    except (BenchError, OSError, ValueError) as error:
        print("bench: %s" % error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
