"""What was measured becomes medians and ratios: plain data for JSON, a table for people."""

import itertools
import statistics
from typing import Any, Callable, Dict, List, NamedTuple, Optional, Sequence, Tuple

from bench.bars import BARS, Bar
from bench.cases import CASES, Sample
from bench.servers import TITLES, Pupgevent

#: case -> way -> one sample per round; the rounds of all ways of a case are side by side.
Measured = Dict[str, Dict[str, List[Sample]]]
OURS = Pupgevent.name


def rate_text(rate: float) -> str:
    return "%s/s" % format(rate, ",.0f" if rate >= 1000 else ".3g")


def time_text(seconds: float) -> str:
    for limit, factor, unit in ((1e-3, 1e6, "µs"), (1.0, 1e3, "ms")):
        if abs(seconds) < limit:
            return "%.3g %s" % (seconds * factor, unit)
    return "%.2f s" % seconds


def size_text(size: float) -> str:
    return "%.2g KB" % (size / 1024)


class Figure(NamedTuple):
    heading: str
    #: Of the column of ratios; None where only the figure itself says something.
    ratio: Optional[str]
    text: Callable[[float], str]


#: In the order of the columns.
FIGURES = {
    "rate": Figure("rate", "rate ratio", rate_text),
    "cpu": Figure("own CPU", "CPU ratio", time_text),
    "p50": Figure("p50", "p50 ratio", time_text),
    "p99": Figure("p99", "p99 ratio", time_text),
    "memory": Figure("memory", "memory ratio", size_text),
    "start": Figure("time", None, time_text),
}
#: What stands over the tables of each protocol.
HEADINGS = {
    "tcp": "TCP: bytes are relayed (NGINX's stream module, HAProxy's TCP mode)",
    "http": 'HTTP: `protocol = "http"` (NGINX\'s `proxy_pass`, HAProxy\'s HTTP mode)',
    "tls": "TLS: ends at the balancer, then as TCP",
    "https": "HTTPS: TLS ends at the balancer, then as HTTP",
}
COMPARED = [name for name, figure in FIGURES.items() if figure.ratio]


def summary(measured: Measured) -> List[Dict[str, Any]]:
    """Each case with the medians of all, the ratios of pupgevent to each, and the bars."""
    return [summary_of_case(name, samples) for name, samples in measured.items()]


def summary_of_case(name: str, samples: Dict[str, List[Sample]]) -> Dict[str, Any]:
    medians = {way: medians_of(rounds) for way, rounds in samples.items()}
    ratios = {way: ratios_of(samples[OURS], rounds) for way, rounds in samples.items()
              if OURS in samples and way != OURS}
    verdicts = [verdict(bar, medians, ratios) for bar in BARS if bar.case == name]
    case = CASES[name]
    return {"name": name, "title": case.title, "protocol": case.protocol, "medians": medians,
            "ratios": ratios, "bars": [entry for entry in verdicts if entry], "rounds": samples}


def medians_of(rounds: Sequence[Sample]) -> Sample:
    return {figure: statistics.median(sample[figure] for sample in rounds if figure in sample)
            for figure in sorted({figure for sample in rounds for figure in sample})}


def ratios_of(ours: Sequence[Sample], theirs: Sequence[Sample]) -> Sample:
    """Medians of the ratios within each round: what disturbs a round disturbs both."""
    return medians_of([
        {figure: a[figure] / b[figure] for figure in COMPARED if figure in a and b.get(figure)}
        for a, b in zip(ours, theirs)])


def verdict(bar: Bar, medians: Dict[str, Sample],
            ratios: Dict[str, Sample]) -> Optional[Dict[str, Any]]:
    """None where one of the two was not measured."""
    value = (medians.get(OURS, {}) if bar.to is None else ratios.get(bar.to, {})).get(bar.figure)
    if value is None:
        return None
    return {"figure": bar.figure, "to": bar.to, "limit": bar.limit, "value": value,
            "met": bar.is_met(value)}


def as_text(result: Dict[str, Any]) -> str:
    """Markdown: the tables of each protocol, and the bars that were missed."""
    parts = [heading(result)]
    for protocol, cases in by_protocol(result):
        parts += [HEADINGS[protocol], *tables(cases)]
    parts.append(bars_text(result["cases"]))
    return "\n\n".join(part for part in parts if part)


def by_protocol(result: Dict[str, Any]) -> List[Tuple[str, List[Dict[str, Any]]]]:
    """The protocols of which there are cases, each with them."""
    groups = [(protocol, [case for case in result["cases"] if case["protocol"] == protocol])
              for protocol in HEADINGS]
    return [(protocol, cases) for protocol, cases in groups if cases]


def tables(cases: Sequence[Dict[str, Any]]) -> List[str]:
    """One for each set of figures."""
    groups = itertools.groupby(cases, key=figures_of)
    return [table(figures, list(some)) for figures, some in groups]


def heading(result: Dict[str, Any]) -> str:
    versions = ", ".join("%s %s" % pair for pair in result["versions"].items())
    agreed = " TLS: %s." % result["tls"] if result.get("tls") else ""
    return ("%s; %d CPUs, %s. Medians of rounds: %d, of %g s each. Own CPU is the balancer's per "
            "request; a ratio is the median of pupgevent's figure to the row's in the same round.%s"
            % (versions, result["cpus"], result["kernel"], result["rounds"], result["seconds"],
               agreed))


def figures_of(case: Dict[str, Any]) -> Tuple[str, ...]:
    present = {figure for medians in case["medians"].values() for figure in medians}
    return tuple(figure for figure in FIGURES if figure in present)


def table(figures: Sequence[str], cases: Sequence[Dict[str, Any]]) -> str:
    compared = [figure for figure in figures if has_ratio(cases, figure)]
    rows = [["case", ""] + [FIGURES[figure].heading for figure in figures]
            + [FIGURES[figure].ratio or "" for figure in compared]]
    for case in cases:
        rows += rows_of(case, figures, compared)
    return markdown(rows)


def has_ratio(cases: Sequence[Dict[str, Any]], figure: str) -> bool:
    return any(figure in ratios for case in cases for ratios in case["ratios"].values())


def rows_of(case: Dict[str, Any], figures: Sequence[str], compared: Sequence[str],
            ) -> List[List[str]]:
    """One for each way; the first names the case."""
    ways = [name for name in TITLES if name in case["medians"]]
    return [[case["title"] if way == ways[0] else "", TITLES[way]]
            + [median_text(case, way, figure) for figure in figures]
            + [ratio_text(case, way, figure) for figure in compared] for way in ways]


def median_text(case: Dict[str, Any], way: str, figure: str) -> str:
    medians = case["medians"][way]
    if figure not in medians:
        return ""
    text = FIGURES[figure].text(medians[figure])
    errors = sum(sample.get("errors", 0) for sample in case["rounds"][way])
    if figure == "rate" and errors:
        text += ", %d errors" % errors
    return text + (limit_text(case, None, figure) if way == OURS else "")


def ratio_text(case: Dict[str, Any], way: str, figure: str) -> str:
    ratios = case["ratios"].get(way, {})
    return "%.2f%s" % (ratios[figure], limit_text(case, way, figure)) if figure in ratios else ""


def limit_text(case: Dict[str, Any], to: Optional[str], figure: str) -> str:
    """What a ratio to another, or pupgevent's figure itself, has to be; empty without a bar."""
    return "".join(" (%s%s)" % (bar["limit"], "" if bar["met"] else " missed")
                   for bar in case["bars"] if (bar["to"], bar["figure"]) == (to, figure))


def markdown(rows: List[List[str]]) -> str:
    """Aligned as plain text, too: numbers to the right."""
    widths = [max(map(len, column)) for column in zip(*rows)]
    lines = [[cell.ljust(width) if at < 2 else cell.rjust(width)
              for at, (cell, width) in enumerate(zip(row, widths))] for row in rows]
    rule = ["-" * width if at < 2 else "-" * (width - 1) + ":" for at, width in enumerate(widths)]
    return "\n".join("| %s |" % " | ".join(line) for line in [lines[0], rule] + lines[1:])


def bars_text(cases: Sequence[Dict[str, Any]]) -> str:
    """Empty where nothing was measured that has a bar."""
    bars = [(case, bar) for case in cases for bar in case["bars"]]
    if not bars:
        return ""
    missed = ["%s, %s%s: %.2f, the bar is %s"
              % (CASES[case["name"]].full_title, FIGURES[bar["figure"]].heading,
                 " to %s" % TITLES[bar["to"]] if bar["to"] else "", bar["value"], bar["limit"])
              for case, bar in bars if not bar["met"]]
    return "\n".join(["%d of %d bars are met." % (len(bars) - len(missed), len(bars))]
                     + ["missed: " + line for line in missed])
