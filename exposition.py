"""Prometheus's text format: families of metrics, and their values as lines.

The format: https://prometheus.io/docs/instrumenting/exposition_formats/
"""

from typing import Any, Callable, Iterable, Iterator, List, Mapping, NamedTuple, Tuple, Union

from histograms import BOUNDS, Histogram

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

GAUGE, COUNTER, HISTOGRAM = "gauge", "counter", "histogram"

Number = Union[int, float, bool]

#: Of a family without a label of its own: one value, None where there is none. Of one with: a value
#: for each value of that label.
Value = Union[None, Number, Histogram, Mapping[str, Number]]


class Family(NamedTuple):
    """Some metrics of one name."""

    name: str
    type: str
    help: str
    #: Takes what the family is about.
    value: Callable[[Any], Value]
    #: Its own label, besides those of what it is about.
    label: str = ""


#: A long loop in slices: concurrency.in_slices, or one that leaves more time to others.
Slices = Callable[[Iterable[Any]], Iterable[Any]]


def lines(
    family: Family, subjects: "Iterable[Tuple[str, object]]", slices: Slices
) -> Iterator[str]:
    """All lines of one, which have to stand together; nothing where it has no value. `subjects` are
    what it is about, each with its labels."""
    head = head_of(family)
    for labels, subject in slices(subjects):
        value = family.value(subject)
        if value is not None:
            yield head + _lines(family, labels, value)
            head = ""


def head_of(family: Family) -> str:
    return "# HELP %s %s\n# TYPE %s %s\n" % (family.name, family.help, family.name, family.type)


def _lines(family: Family, labels: str, value: Value) -> str:
    name = family.name
    if isinstance(value, Histogram):
        return _histogram(name, labels, value)
    if isinstance(value, dict):
        return "".join('%s{%s,%s="%s"} %s\n' % (name, labels, family.label, word, _number(each))
                       for word, each in value.items())
    return "%s{%s} %s\n" % (name, labels, _number(value)) if labels else "%s %s\n" % (
        name, _number(value))


#: `le` of each bucket.
_LIMITS = (*("%g" % bound for bound in BOUNDS), "+Inf")


def _histogram(name: str, labels: str, histogram: Histogram) -> str:
    found: List[str] = []
    count = 0
    for limit, own in zip(_LIMITS, histogram.counts):
        count += own
        found.append('%s_bucket{%s,le="%s"} %d\n' % (name, labels, limit, count))
    found.append("%s_sum{%s} %s\n" % (name, labels, repr(histogram.sum)))
    found.append("%s_count{%s} %d\n" % (name, labels, count))
    return "".join(found)


def _number(value: Any) -> str:
    return repr(value) if isinstance(value, float) else "%d" % value


def labels_of(pairs: "Iterable[Tuple[str, str]]") -> str:
    return ",".join('%s="%s"' % (name, _escaped(value)) for name, value in pairs)


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
