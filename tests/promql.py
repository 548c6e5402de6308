"""PromQL in tests: which metrics an expression asks for, and what promtool says of it."""

import json
import re
import subprocess
from pathlib import Path
from typing import Any, Dict, Iterator, List, NamedTuple, Set, Tuple

import lifecycle
import metrics
import status
from tools import tool

#: What Prometheus itself adds to each metric, and a metric of its own.
TARGET_LABELS = {"job", "instance"}
OWN_METRICS = {"up": metrics.Described("gauge", ())}

#: The values of a label, where a metric has one for each of some.
VALUES: Dict[Tuple[str, str], Tuple[str, ...]] = {
    ("pupgevent_backend_status", "state"): status.PROCESS_STATES,
    ("pupgevent_server_status", "state"): lifecycle.STATES,
    ("pupgevent_server_restarts_total", "cause"): metrics.LABEL_VALUES["cause"],
    **{("pupgevent_%s_http_responses_total" % of, "code"): metrics.LABEL_VALUES["code"]
       for of in ("frontend", "backend", "server")},
    ("pupgevent_frontend_tls_handshakes_total", "result"): metrics.LABEL_VALUES["result"],
}

_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|\[[^]]*\]|\{[^}]*\}|[A-Za-z_:][\w:]*|\d[\w.]*|\S')
_MATCHER = re.compile(r'(\w+)\s*(=~|!~|!=|=)\s*"([^"]*)"')
_GROUPINGS = {"by", "without", "on", "ignoring", "group_left", "group_right"}
_WORDS = {"sum", "max", "min", "avg", "count", "group", "topk", "and", "or", "unless", "bool"}


class Selector(NamedTuple):
    """A metric in an expression."""

    name: str
    #: Label, operator, value.
    matchers: List[Tuple[str, str, str]]
    has_range: bool


class Expression(NamedTuple):
    """What there is to check of one."""

    selectors: List[Selector]
    #: Of `by (...)`, `on (...)` and the like.
    labels: Set[str]


def parse(text: str) -> Expression:
    """Only as far as names and labels go: promtool knows the grammar."""
    tokens = _TOKEN.findall(text)
    selectors: List[Selector] = []
    labels: Set[str] = set()
    place = 0
    while place < len(tokens):
        token, rest = tokens[place], tokens[place + 1:]
        place += 1
        if token in _GROUPINGS:
            inside = rest[1:rest.index(")")]
            labels.update(each for each in inside if each != ",")
            place += len(inside) + 2
        elif re.match(r"[A-Za-z_:]", token) and token not in _WORDS and rest[:1] != ["("]:
            braces = rest[0] if rest and rest[0].startswith("{") else ""
            behind = rest[1:2] if braces else rest[:1]
            is_range = bool(behind) and behind[0].startswith("[")
            selectors.append(Selector(token, _MATCHER.findall(braces), is_range))
    return Expression(selectors, labels)


def problems(text: str) -> List[str]:
    """What an expression asks for that pupgevent does not serve, or asks for in the wrong way."""
    expression = parse(text)
    found = [] if expression.selectors else ["no metric"]
    known: Set[str] = set(TARGET_LABELS)
    for selector in expression.selectors:
        name = selector.name
        base = re.sub("_bucket$", "", name)
        family = dict(metrics.described(), **OWN_METRICS).get(base)
        if family is None or (base != name) is not (family.type == "histogram"):
            found.append("there is no %s" % name)
            continue
        if (family.type != "gauge") is not selector.has_range and not is_window(text, name):
            found.append("%s is a %s" % (name, family.type))
        labels = TARGET_LABELS | set(family.labels) | ({"le"} if base != name else set())
        known |= labels
        for label, _, value in selector.matchers:
            if label not in labels:
                found.append("%s has no label %s" % (name, label))
            values = VALUES.get((name, label), ())
            if values and not value.startswith("$"):
                found += ["%s is never %s" % (label, each)
                          for each in value.split("|") if each not in values]
    return found + ["no metric has the label %s" % each for each in expression.labels - known]


def is_window(text: str, name: str) -> bool:
    """A gauge is looked at over some time."""
    return re.search(r"\w+_over_time\(\s*%s\b" % name, text) is not None


def names(text: str) -> Set[str]:
    """The families that an expression asks for."""
    return {re.sub("_bucket$", "", each.name) for each in parse(text).selectors}


def promtool(*words: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [tool("promtool"), *words], stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        universal_newlines=True, check=False, timeout=100)


def assert_accepted(*words: str) -> str:
    """What promtool says of what is right."""
    done = promtool(*words)
    assert done.returncode == 0, done.stdout
    return str(done.stdout)


#: Seconds between two samples, as in the exported scrape configuration.
STEP = 15

#: Samples, one every STEP seconds; None is no sample.
Series = Dict[str, List[Any]]


def as_input(series: Series) -> Iterator[Dict[str, str]]:
    for name, samples in series.items():
        values = " ".join("_" if each is None else "%d" % each for each in samples)
        yield {"series": name, "values": values}


def run_test(folder: Path, rules: Path, test: Dict[str, Any]) -> None:
    """A unit test of rules; JSON is YAML, too."""
    path = folder / "test.json"
    path.write_text(json.dumps({
        "rule_files": [str(rules)], "evaluation_interval": "%ds" % STEP, "tests": [test]}))
    assert_accepted("test", "rules", str(path))
