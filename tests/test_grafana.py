"""docs/grafana.json asks for metrics that pupgevent serves, in PromQL that Prometheus takes."""

import functools
import itertools
import json
import re
from pathlib import Path
from typing import Any, Dict, Iterator, List, Set

import pytest

import lifecycle
import metrics
import promql
import status

PATH = Path(__file__).resolve().parent.parent / "docs" / "grafana.json"
BOARD: Dict[str, Any] = json.loads(PATH.read_text(encoding="utf-8"))

#: Metrics that no panel shows, and why.
LEFT_OUT: Set[str] = set()

#: What Grafana puts in place of its macros.
MACROS = {"$__rate_interval": "1m", "$__range": "3h", "$__interval": "15s"}

VARIABLES: List[Dict[str, Any]] = BOARD["templating"]["list"]

SOURCE = {"type": "prometheus", "uid": "${datasource}"}

#: Grafana divides the width of a dashboard into so many parts.
WIDTH = 24


def panels(of: List[Dict[str, Any]] = BOARD["panels"]) -> Iterator[Dict[str, Any]]:
    """All of them, also those in a row that is closed."""
    for panel in of:
        yield panel
        yield from panels(panel.get("panels", []))


CHARTS = [panel for panel in panels() if panel["type"] != "row"]
TARGETS = [(panel, target) for panel in CHARTS for target in panel["targets"]]
EXPRESSIONS: List[str] = [target["expr"] for _, target in TARGETS]


def expanded(expression: str) -> str:
    """As Grafana asks for it where all is chosen."""
    found = functools.reduce(lambda text, each: text.replace(*each), MACROS.items(), expression)
    assert "$__" not in found
    return re.sub(r'"\$\w+"', '".*"', found)


def queries() -> List[str]:
    """What the variables have their values from, as selectors."""
    found = [each["query"]["query"] for each in VARIABLES if each["type"] == "query"]
    return [re.sub(r"label_values\((.*), (\w+)\)", r"count by (\2) (\1)", each) for each in found]


def test_there_is_something_to_check() -> None:
    assert len(EXPRESSIONS) > 40 and len(queries()) == 4
    assert not [each for each in queries() if "label_values" in each]


@pytest.mark.parametrize("expression", [*EXPRESSIONS, *queries()])
def test_an_expression_asks_for_what_is_served(expression: str) -> None:
    assert promql.problems(expression) == []


def test_each_metric_is_shown_or_left_out_on_purpose() -> None:
    shown = {name for each in EXPRESSIONS for name in promql.names(each)}
    assert set(metrics.described()) - shown == LEFT_OUT


def test_prometheus_takes_each_expression(tmp_path: Path) -> None:
    rules = []
    for number, expression in enumerate([*EXPRESSIONS, *queries()]):
        rules.append({"record": "checked:%d" % number, "expr": expanded(expression)})
    path = tmp_path / "grafana.rules.yml"
    path.write_text(json.dumps({"groups": [{"name": "grafana", "rules": rules}]}))
    said = promql.assert_accepted("check", "rules", str(path))
    assert "SUCCESS: %d rules found" % len(rules) in said


def test_every_query_keeps_to_what_is_chosen_at_the_top() -> None:
    """All four variables, as far as the metric has such a label."""
    for expression in EXPRESSIONS:
        for selector in promql.parse(expression).selectors:
            family = metrics.described()[re.sub("_bucket$", "", selector.name)]
            chosen = {"job", "instance", *family.labels} & {"job", "instance", "proxy", "server"}
            matched = {(label, operator, value) for label, operator, value in selector.matchers}
            assert matched >= {(each, "=~", "$" + each) for each in chosen}, expression


def test_every_variable_is_there() -> None:
    assert [each["name"] for each in VARIABLES] == [
        "datasource", "job", "instance", "proxy", "server"]
    text = PATH.read_text(encoding="utf-8")
    known = {each["name"] for each in VARIABLES}
    used = set(re.findall(r"\$\{?(\w+)", text)) - {name[1:] for name in MACROS} - {"__all"}
    assert used == known


def test_every_query_asks_the_chosen_data_source() -> None:
    for panel, target in TARGETS:
        assert panel["datasource"] == target["datasource"] == SOURCE
    for variable in VARIABLES[1:]:
        assert variable["datasource"] == SOURCE
        assert variable["definition"] == variable["query"]["query"]


def test_legends_name_labels_that_the_series_have() -> None:
    for _, target in TARGETS:
        used = set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"]))
        expression = promql.parse(target["expr"])
        bare = set() if re.match(r"\w+\((?!process_)", target["expr"]) else {"job", "instance"}
        kept = expression.labels or bare
        assert used <= kept, target
        # What differs between two lines is in their legends, but for the job.
        assert target["legendFormat"] == "__auto" or kept - used <= {"job", "le", "proxy"}, target


@pytest.mark.parametrize("metric, states", [
    ("pupgevent_backend_status", status.PROCESS_STATES),
    ("pupgevent_server_status", lifecycle.STATES),
])
def test_a_timeline_has_a_number_a_name_and_a_colour_for_each_state(
    metric: str, states: Any
) -> None:
    panel, = (each for each in CHARTS if each["type"] == "state-timeline"
              and metric in each["targets"][0]["expr"])
    numbers = re.findall(r'(\d+) \* %s\{[^}]*state="(\w+)"\}' % metric, panel["targets"][0]["expr"])
    mapping, = panel["fieldConfig"]["defaults"]["mappings"]
    assert {number: each["text"] for number, each in mapping["options"].items()} == dict(numbers)
    assert sorted(state for _, state in numbers) == sorted(states)
    assert all(each["color"] for each in mapping["options"].values())


def test_grafana_can_tell_panels_and_queries_apart() -> None:
    ids = [panel["id"] for panel in panels()]
    assert len(ids) == len(set(ids))
    for panel in CHARTS:
        references = [target["refId"] for target in panel["targets"]]
        assert len(references) == len(set(references))


def test_every_chart_says_what_it_shows() -> None:
    for panel in CHARTS:
        assert panel["title"] and panel["description"].endswith("."), panel["id"]
        defaults = panel["fieldConfig"]["defaults"]
        assert defaults["thresholds"]["steps"][0]["value"] is None
        assert panel["type"] in ("table", "state-timeline") or defaults["unit"], panel["title"]


def test_no_two_panels_lie_at_the_same_place() -> None:
    rows = [panel for panel in BOARD["panels"] if panel["type"] == "row" and panel["collapsed"]]
    for group in [BOARD["panels"], *(each["panels"] for each in rows)]:
        places = [panel["gridPos"] for panel in group]
        assert all(each["x"] + each["w"] <= WIDTH for each in places)
        cells = list(itertools.chain.from_iterable(
            itertools.product(range(each["x"], each["x"] + each["w"]),
                              range(each["y"], each["y"] + each["h"])) for each in places))
        assert len(cells) == len(set(cells))


def test_every_column_of_a_table_has_a_name() -> None:
    for panel in CHARTS:
        if panel["type"] == "table":
            merge, organize = panel["transformations"]
            assert merge["id"] == "merge"
            named = {**organize["options"]["renameByName"], **organize["options"]["excludeByName"]}
            values = {"Value #" + target["refId"] for target in panel["targets"]}
            labels = {each for target in panel["targets"]
                      for each in promql.parse(target["expr"]).labels}
            assert values | labels <= set(named)
            columns = {each["matcher"]["options"] for each in panel["fieldConfig"]["overrides"]}
            assert columns <= set(organize["options"]["renameByName"].values())
            assert all(target["format"] == "table" and target["instant"]
                       for target in panel["targets"])
