"""The Grafana board shows what the code measures, in the form that Grafana imports."""

from __future__ import annotations

import json
import re
from typing import Any

from infoae.cluster import ray_metrics
from tests.helpers.paths import ROOT

BOARD: dict[str, Any] = json.loads((ROOT / "deploy" / "ray" / "grafana.json").read_text(encoding="utf-8"))
METRICS = {metric.exported: metric for metric in ray_metrics.ALL}
EXPRESSIONS = [target["expr"] for panel in BOARD["panels"] for target in panel["targets"]]


def test_the_board_shows_every_metric_and_no_other() -> None:
    texts = [*EXPRESSIONS, *(variable["query"] for variable in BOARD["templating"]["list"])]
    assert {name for text in texts for name in re.findall(r"ray_\w+", text)} == METRICS.keys()


def test_it_groups_and_names_by_tags_that_a_metric_has() -> None:
    for panel in BOARD["panels"]:
        for target in panel["targets"]:
            metrics = re.findall(r"ray_\w+", target["expr"])
            used = {tag for tags in re.findall(r"by \(([^)]*)\)", target["expr"]) for tag in tags.split(", ")}
            used |= set(re.findall(r"(\w+)=~", target["expr"])) | set(re.findall(r"{{(\w+)}}", target["legendFormat"]))
            assert all(used <= set(METRICS[name].tags) for name in metrics), target


def test_it_has_what_grafana_demands() -> None:
    """See Grafana's dashboard JSON model and its schema (kinds/dashboard/dashboard_kind.cue, version 39)."""
    assert type(BOARD["schemaVersion"]) is int
    assert BOARD["schemaVersion"] >= 36  # since then a data source is an object
    assert BOARD["title"]
    assert re.fullmatch(r"[\w-]{1,40}", BOARD["uid"])
    assert BOARD["time"].keys() == {"from", "to"}
    names = {variable["name"] for variable in BOARD["templating"]["list"]}
    assert set(re.findall(r"\$\{?(\w+)", json.dumps(BOARD["panels"]))) <= names
    panels = BOARD["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels) > 0
    places: set[tuple[int, int]] = set()
    for panel in panels:
        assert panel["type"] in {"timeseries", "stat", "gauge"}
        assert panel["title"]
        assert {target["refId"] for target in panel["targets"]}
        assert all(target["datasource"]["type"] == "prometheus" for target in panel["targets"])
        x, y, w, h = (panel["gridPos"][name] for name in "xywh")
        assert x + w <= 24
        taken = {(column, row) for column in range(x, x + w) for row in range(y, y + h)}
        assert not taken & places
        places |= taken
