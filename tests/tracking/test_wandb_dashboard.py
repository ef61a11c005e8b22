"""A study's workspace and report, sent with wandb-workspaces to the stand-in, or written down."""

from __future__ import annotations

import dataclasses
import json
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from src.errors import HarnessError
from src.spec import TrackingSpec
from src.tracking import Board, publish_board
from src.tracking.panels import sections
from tests.tracking.stand_in import StandIn

Said = Callable[[], list[str]]
TIMEOUT_S = 1.5
SPEC = TrackingSpec(init_timeout_s=TIMEOUT_S, finish_timeout_s=TIMEOUT_S)


@pytest.fixture
def board(tmp_path: Path) -> Board:
    folder = tmp_path / "minilm-r52"
    draft = folder / "report" / "wandb" / "dashboard.json"
    return Board(
        "minilm-r52", folder, draft, ("accuracy",), ("q wins.", "Rank 1 suffices."), "| a |\n|---|", ("front",)
    )


def nodes(content: Any) -> Iterator[dict[str, Any]]:
    """Every object inside JSON."""
    if isinstance(content, dict):
        yield content
        for value in content.values():
            yield from nodes(value)
    elif isinstance(content, list):
        for value in content:
            yield from nodes(value)


def panels(spec: Any) -> list[dict[str, Any]]:
    return [node for node in nodes(spec) if "viewType" in node]


def without_ids(spec: Any) -> Any:
    """Panels and run sets get a new random id each time, and a run set the id of its project once it is sent."""
    if isinstance(spec, dict):
        return {key: without_ids(value) for key, value in spec.items() if key not in {"__id__", "id", "project"}}
    return [without_ids(value) for value in spec] if isinstance(spec, list) else spec


def filters(spec: Any) -> set[tuple[str, str]]:
    return {(node["key"]["name"], node["value"]) for node in nodes(spec) if "op" in node and "key" in node}


def test_panels_by_method_are_there_for_several_methods_only() -> None:
    plain, several = (dict(sections(["accuracy", "loss"], methods=methods)) for methods in (False, True))
    assert several.keys() - plain.keys() == {"Scores by method"}
    titles = [panel.title for panel in several["Scores by method"]]
    assert len(set(titles)) == len(titles) == 2 * 3 + 1
    assert all("by method" in str(title) for title in titles)


def test_without_a_key_all_is_written_and_nothing_sent(board: Board, said: Said) -> None:
    published = publish_board(SPEC, board)
    assert (published.draft, published.workspace, published.report) == (board.draft, None, None)
    draft = json.loads(board.draft.read_text())
    assert draft["project"] == "lora-sweep"
    kinds = {panel["viewType"] for panel in panels(draft["workspace"])}
    assert kinds == {"Bar Chart", "Scatter Plot", "Parallel Coordinates Plot", "Run History Line Plot"}
    assert filters(draft["workspace"]) == {("group", "minilm-r52"), ("jobType", "train")}
    assert filters(draft["report"]) == {("group", "minilm-r52"), ("jobType", "train"), ("jobType", "summary")}
    texts = [node["text"] for node in nodes(draft["report"]["spec"]["blocks"]) if node.get("text")]
    assert {"Answer", "q wins.", "Rank 1 suffices.", "Learning rate", "Learning curves", "Figures"} <= set(texts)
    media = [panel["config"]["mediaKeys"] for panel in panels(draft["report"]) if panel["viewType"] == "Media Browser"]
    assert media == [["figures/front"]]
    assert said() == []


def test_what_is_sent_is_what_is_written(server: StandIn, board: Board, said: Said) -> None:
    published = publish_board(SPEC, board)
    workspace, report = server.api.views.values()
    assert (workspace["type"], report["type"]) == ("project-view", "runs")
    assert {view["entityName"] for view in (workspace, report)} == {"tester"}
    assert {view["projectName"] for view in (workspace, report)} == {"lora-sweep"}
    draft = json.loads(board.draft.read_text())
    for name, view in (("workspace", workspace), ("report", report)):
        assert draft[name]["displayName"] == view["displayName"]
        assert without_ids(draft[name]["spec"]) == without_ids(view["spec"])
    assert [node["entityName"] for node in nodes(report["spec"]) if "entityName" in node] == ["tester"] * 5
    assert (published.workspace or "").startswith(f"{server.url}/tester/lora-sweep?nw=")
    assert (published.report or "").startswith(f"{server.url}/tester/lora-sweep/reports/minilm-r52")
    assert said() == []


@pytest.mark.parametrize(("metric", "ascending"), [("accuracy", False), ("loss", True)])
def test_the_best_run_comes_first_and_runs_stand_for_themselves(metric: str, ascending: bool, board: Board) -> None:
    """Grouped in the list of runs, learning rates would be averaged before any panel saw them."""
    publish_board(SPEC, dataclasses.replace(board, metrics=(metric,)))
    (runs,) = json.loads(board.draft.read_text())["workspace"]["spec"]["section"]["runSets"]
    (key,) = runs["sort"]["keys"]
    assert key == {"key": {"section": "summary", "name": f"best_validation/{metric}"}, "ascending": ascending}
    assert runs["grouping"] == []


def test_no_panel_of_a_grid_lies_on_another(board: Board) -> None:
    publish_board(SPEC, board)
    draft = json.loads(board.draft.read_text())
    grids = [node["panelBankSectionConfig"] for node in nodes(draft["report"]) if "panelBankSectionConfig" in node]
    for grid in grids:
        places = [(panel["layout"]["x"], panel["layout"]["y"]) for panel in grid["panels"]]
        assert len(set(places)) == len(places) > 0
    assert len(grids) == 5


def test_the_next_time_replaces_it(server: StandIn, board: Board) -> None:
    first = publish_board(SPEC, board)
    again = publish_board(SPEC, dataclasses.replace(board, metrics=("accuracy", "f1")))
    assert (again.workspace, again.report) == (first.workspace, first.report)
    assert len(server.api.views) == 2
    titles = {panel["config"].get("chartTitle") for panel in panels(server.api.views["view0"]["spec"])}
    assert {"validation accuracy against rank", "validation f1 against rank"} <= titles


def test_what_somebody_removed_at_wandb_is_made_anew(server: StandIn, board: Board) -> None:
    first = publish_board(SPEC, board)
    server.api.stale |= {"view0", "view1"}
    again = publish_board(SPEC, board)
    assert len(server.api.views) == 4
    assert {first.workspace, first.report}.isdisjoint({again.workspace, again.report})
    assert json.loads((board.folder / "tracking.json").read_text())["report"] == "view3"


@pytest.mark.parametrize("trouble", ["gone", "hang", 403, 503])
def test_a_server_that_fails_is_one_error_in_bounded_time(server: StandIn, board: Board, trouble: str | int) -> None:
    if trouble == "gone":
        server.stop()
    else:
        server.behaviour["graphql"] = trouble
    begin = time.monotonic()
    with pytest.raises(HarnessError) as caught:
        publish_board(dataclasses.replace(SPEC, entity="tester"), board)
    assert time.monotonic() - begin < 2 * TIMEOUT_S + 2
    assert str(caught.value).startswith("W&B does not take the dashboard (")
    assert str(board.draft) in str(caught.value)
    assert panels(json.loads(board.draft.read_text()))


def test_a_project_that_wandb_does_not_know_is_named(server: StandIn, board: Board) -> None:
    with pytest.raises(HarnessError, match="tester/nowhere' not found"):
        publish_board(dataclasses.replace(SPEC, project="nowhere"), board)


@pytest.mark.parametrize("study", ["lr=0.1", "a+b", "v1.2_x-y"])
def test_names_with_signs_are_filtered_by_as_they_are(study: str, board: Board) -> None:
    publish_board(SPEC, dataclasses.replace(board, study=study))
    draft = json.loads(board.draft.read_text())
    assert ("group", study) in filters(draft["workspace"])
    assert ("group", study) in filters(draft["report"])


def test_without_the_extra_one_sentence_says_how_to_get_it(board: Board, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "wandb_workspaces", None)
    with pytest.raises(HarnessError, match=r'pip install -c constraints.txt -e "\.\[dashboard\]"'):
        publish_board(SPEC, board)
    assert not board.folder.exists()


def test_settings_that_wandb_refuses_are_an_error(board: Board, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_MODE", "sideways")
    with pytest.raises(HarnessError, match="W&B cannot be used"):
        publish_board(SPEC, board)


def test_a_folder_that_cannot_be_written_is_an_error(board: Board) -> None:
    board.folder.write_text("a file where the folder should be")
    with pytest.raises(HarnessError, match=r"Cannot write .*dashboard.json"):
        publish_board(SPEC, board)
