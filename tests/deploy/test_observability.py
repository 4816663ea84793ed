"""Dashboard, rules and what Prometheus scrapes: valid, and about metrics that there are."""

from __future__ import annotations

import importlib.util
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import promql_parser
import pytest
import yaml

from .exposed import FOLDER, TABLE

_ROOT = FOLDER.parents[1]
_RULES = FOLDER / "prometheus" / "rules" / "hypha.yml"
_TARGET = {"role", "instance", "job"}
_BY_PROMETHEUS = {
    "up": _TARGET,
    "ALERTS": {"alertname", "alertstate", "severity"},
    # From the Prometheus client in each process.
    **dict.fromkeys(
        ("process_cpu_seconds_total", "process_max_fds", "process_open_fds", "process_resident_memory_bytes"), _TARGET
    ),
}


def _groups() -> list[dict[str, Any]]:
    groups: list[dict[str, Any]] = yaml.safe_load(_RULES.read_text())["groups"]
    return groups


def _rules(kind: str) -> list[dict[str, Any]]:
    return [rule for group in _groups() for rule in group["rules"] if kind in rule]


def _dashboard() -> dict[str, Any]:
    board: dict[str, Any] = json.loads((FOLDER / "grafana" / "dashboards" / "hypha.json").read_text())
    return board


def _expressions() -> list[str]:
    shown = [target["expr"] for panel in _dashboard()["panels"] for target in panel.get("targets", ())]
    return [*shown, *(str(rule["expr"]) for rule in (*_rules("record"), *_rules("alert")))]


def _parsed(expression: str) -> Any:
    for variable, value in (("$__rate_interval", "1m"), ("$role", ".*"), ("$instance", ".*")):
        expression = expression.replace(variable, value)
    return promql_parser.parse(expression)


def _selectors(node: Any) -> list[Any]:
    """Every vector selector within an expression."""
    if isinstance(node, promql_parser.VectorSelector):
        return [node]
    inner = [getattr(node, name, None) for name in ("lhs", "rhs", "expr", "param", "vector_selector")]
    inner += list(getattr(node, "args", None) or ())
    return [selector for part in inner if part is not None for selector in _selectors(part)]


def _labels_of(metric: str) -> set[str]:
    """The labels that a metric can have. Raises KeyError where there is no such metric."""
    if metric in _BY_PROMETHEUS:
        return _BY_PROMETHEUS[metric]
    for rule in _rules("record"):
        if rule["record"] == metric:
            by = re.search(r"by \(([^)]*)\)", str(rule["expr"]))
            return set() if by is None else {label.strip() for label in by[1].split(",")} - {"le"}
    for suffix in ("_bucket", "_sum", "_count"):
        base = metric.removesuffix(suffix)
        if base != metric and base in TABLE and TABLE[base]["type"] == "histogram":
            return {*_labels(base), *_TARGET, *(("le",) if suffix == "_bucket" else ())}
    assert TABLE[metric]["type"] != "histogram", f"{metric} has _bucket, _sum and _count"
    return {*_labels(metric), *_TARGET}


def _labels(metric: str) -> list[str]:
    labels = TABLE[metric]["labels"]
    assert isinstance(labels, list)
    return labels


def test_expressions_ask_for_what_there_is() -> None:
    """Each parses, and names only metrics and labels of ours, or of Prometheus."""
    expressions = _expressions()
    assert len(expressions) > 100
    for expression in expressions:
        selectors = _selectors(_parsed(expression))
        assert selectors, expression
        known = {"le"}
        for selector in selectors:
            assert selector.name is not None, expression
            labels = _labels_of(selector.name)
            used = {matcher.name for matcher in selector.matchers.matchers}
            assert used <= labels, f"{selector.name} has no {used - labels}: {expression}"
            known |= labels
        grouped = {
            label.strip() for by in re.findall(r"\bby \(([^)]*)\)", expression) for label in by.split(",") if label
        }
        assert grouped <= known, f"no {grouped - known} in {expression}"


def test_a_selector_of_nothing_is_found_out() -> None:
    """The test above can fail."""
    (selector,) = _selectors(_parsed("sum by (role) (rate(no_such_metric_total[5m])) > 3"))
    with pytest.raises(KeyError):
        _labels_of(selector.name)


def test_rates_are_of_counters() -> None:
    """``rate`` of a gauge is no number that means anything."""
    for expression in _expressions():
        for metric in re.findall(r"\b(?:rate|increase)\((\w+)", expression):
            if metric not in _BY_PROMETHEUS:
                base = re.sub(r"_(bucket|count|sum)$", "", metric)
                assert TABLE.get(metric, TABLE.get(base, {})).get("type") in ("counter", "histogram"), expression


def test_the_dashboard_is_what_its_table_says(monkeypatch: pytest.MonkeyPatch) -> None:
    spec = importlib.util.spec_from_file_location("dashboard", FOLDER / "grafana" / "dashboard.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "dashboard", module)  # dataclasses look there
    spec.loader.exec_module(module)
    assert module.FILE.read_text() == module.text(), "run: python deploy/observability/grafana/dashboard.py"


def test_the_dashboard_can_be_imported_anywhere() -> None:
    """Its data source is a variable, panels do not overlap, every graph has a unit."""
    board = _dashboard()
    assert {variable["name"] for variable in board["templating"]["list"]} == {"datasource", "role", "instance"}
    rows = [panel["title"] for panel in board["panels"] if panel["type"] == "row"]
    wanted = ["Overview", "Gateways", "Routing", "Roles", "Bus", "Databases", "Artifacts", "Apps", "Processes"]
    assert rows == wanted
    places = set()
    for panel in board["panels"]:
        grid = panel["gridPos"]
        places.add((grid["x"], grid["y"]))
        if panel["type"] != "row":
            assert panel["datasource"]["uid"] == "${datasource}"
            assert panel["fieldConfig"]["defaults"]["unit"]
            assert {target["datasource"]["uid"] for target in panel["targets"]} == {"${datasource}"}
    assert len(places) == len(board["panels"]) == len({panel["id"] for panel in board["panels"]})


def test_alerts_say_what_to_do() -> None:
    """Each has a severity, words, and a section of the documentation."""
    for alert in _rules("alert"):
        assert alert["labels"]["severity"] in ("critical", "warning", "info")
        notes = alert["annotations"]
        assert notes["summary"]
        assert notes["description"]
        path, _, section = notes["runbook_url"].partition("#")
        headings = re.findall(r"^### (\w+)$", (_ROOT / path).read_text(), re.MULTILINE)
        assert section == alert["alert"].lower()
        assert alert["alert"] in headings


def test_every_role_is_scraped() -> None:
    jobs = yaml.safe_load((FOLDER / "prometheus" / "prometheus.yml").read_text())["scrape_configs"]
    found = {
        (job["relabel_configs"][0]["replacement"], *job["dns_sd_configs"][0]["names"], job["dns_sd_configs"][0]["port"])
        for job in jobs
    }
    services = ("auth", "workspace", "artifacts", "apps", "browser-worker")
    assert found == {("gateway", "gateway", 9527), *((role, role, 9528) for role in services)}


@pytest.fixture
def promtool() -> str:
    return tool("promtool")


def tool(name: str) -> str:
    """Return the path of a program of Prometheus, as ``scripts/setup tests`` unpacks it where it may."""
    unpacked = _ROOT / "build" / "prometheus" / "usr" / "bin" / name
    path = str(unpacked) if unpacked.exists() else shutil.which(name)
    if path is None:
        pytest.skip(f"needs {name}: scripts/setup tests, as root on Debian")
    return path


def test_prometheus_takes_configuration_and_rules(promtool: str) -> None:
    for words in (("check", "config", "prometheus/prometheus.yml"), ("check", "rules", "prometheus/rules/hypha.yml")):
        checked = subprocess.run([promtool, *words], cwd=FOLDER, capture_output=True, text=True, check=False)
        assert checked.returncode == 0, checked.stdout + checked.stderr


def test_alerts_fire_when_they_should(promtool: str) -> None:
    """The unit tests of the rules, beside them."""
    tests = Path("prometheus") / "tests" / "hypha.yml"
    ran = subprocess.run([promtool, "test", "rules", tests], cwd=FOLDER, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr
