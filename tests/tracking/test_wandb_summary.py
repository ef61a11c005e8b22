"""The one run that shows a study: online against the stand-in, and offline."""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from src.spec import TrackingSpec
from src.tracking import DataTable, StudySummary, mirror_study
from tests.tracking.stand_in import StandIn
from tests.tracking.wandb_file import read_runs

Said = Callable[[], list[str]]
TIMEOUT_S = 1.5
SPEC = TrackingSpec(entity="tester", init_timeout_s=TIMEOUT_S, finish_timeout_s=6.0)
OFFLINE = TrackingSpec(mode="offline")


@pytest.fixture
def summary(tmp_path: Path) -> StudySummary:
    figure = tmp_path / "score.png"
    Image.new("RGB", (8, 6), "white").save(figure)
    return StudySummary(
        study="minilm-r52",
        folder=tmp_path / "outputs" / "minilm-r52",
        tables={"table": DataTable(("targets", "rank", "test"), [["qv", 8, 0.9], ["none", None, 0.8]])},
        figures={"score": figure},
        sentences=("q and v are best.", "Rank 1 suffices."),
        scalars={"cells": 2, "test/accuracy": 0.9, "test/loss": None},
    )


def uploads(server: StandIn) -> dict[str, str]:
    return {path.removeprefix("/put/"): body for path, body in server.bodies if path.startswith("/put/")}


def test_tables_figures_and_answer_arrive_in_one_run(server: StandIn, summary: StudySummary, said: Said) -> None:
    identity = mirror_study(SPEC, summary)
    ((name, run),) = server.runs.items()
    assert name == identity
    sent = run.variables
    assert (sent["groupName"], sent["jobType"], sent["displayName"]) == ("minilm-r52", "summary", "minilm-r52-summary")
    assert sent["notes"] == "q and v are best.\n\nRank 1 suffices."
    assert (run.summary["cells"], run.summary["test/accuracy"], run.exit_code) == (2, 0.9, 0)
    assert "test/loss" not in run.summary
    assert run.summary["answer"] == "q and v are best. Rank 1 suffices."
    table, figure = run.summary["tables/table"], run.summary["figures/score"]
    assert (table["ncols"], table["nrows"], table["_type"]) == (3, 2, "table-file")
    assert (figure["width"], figure["height"], figure["format"]) == (8, 6, "png")
    stored = json.loads(uploads(server)[table["path"]])
    assert stored == {"columns": ["targets", "rank", "test"], "data": [["qv", 8, 0.9], ["none", None, 0.8]]}
    assert "PNG" in uploads(server)[figure["path"]]
    assert said() == []


def test_a_later_summary_continues_the_same_run(server: StandIn, summary: StudySummary, said: Said) -> None:
    first = mirror_study(SPEC, summary)
    again = dataclasses.replace(summary, scalars={"cells": 3}, sentences=("All alike.",))
    assert mirror_study(SPEC, again) == first
    (run,) = server.runs.values()
    assert (run.summary["cells"], run.summary["answer"], run.variables["notes"]) == (3, "All alike.", "All alike.")
    assert len(run.history) == 4
    assert said() == []


def test_offline_only_the_newest_summary_waits_to_be_sent(summary: StudySummary, said: Said) -> None:
    identities = {mirror_study(OFFLINE, dataclasses.replace(summary, scalars={"cells": number})) for number in (1, 2)}
    (found,) = read_runs(summary.folder, "offline-run")
    assert identities == {found.run.run_id}
    assert (found.summary["cells"], found.run.job_type, found.run.run_group) == (2, "summary", "minilm-r52")
    shown = {name for row in found.rows for name in row if "/" in name}
    assert shown == {"figures/score", "tables/table"}
    assert said() == []


@pytest.mark.parametrize("trouble", ["gone", "hang", 403])
def test_a_server_that_fails_costs_bounded_time_and_the_summary_waits_on_disk(
    server: StandIn, summary: StudySummary, said: Said, trouble: str | int
) -> None:
    if trouble == "gone":
        server.stop()
    else:
        server.behaviour["graphql"] = trouble
    begin = time.monotonic()
    identity = mirror_study(dataclasses.replace(SPEC, finish_timeout_s=TIMEOUT_S), summary)
    assert time.monotonic() - begin < 2 * TIMEOUT_S + 3
    (found,) = read_runs(summary.folder, "offline-run")
    assert found.run.run_id == identity
    assert ["cannot be reached or refuses" in text for text in said()] == [True]


def test_a_figure_that_cannot_be_read_costs_no_table(summary: StudySummary, said: Said) -> None:
    summary.figures["score"].write_text("not a picture")
    mirror_study(OFFLINE, summary)
    (found,) = read_runs(summary.folder)
    assert "tables/table" in found.summary
    assert found.summary["cells"] == 2
    assert ["W&B failed" in text for text in said()] == [True]


def test_a_folder_that_cannot_be_written_is_said_and_fails_nobody(summary: StudySummary, said: Said) -> None:
    summary.folder.parent.write_text("a file where the folder should be")
    assert mirror_study(OFFLINE, summary) is None
    assert any("W&B does not show the study" in text for text in said())


def test_an_empty_study_has_a_summary_without_media(summary: StudySummary, said: Said) -> None:
    empty = StudySummary("empty", summary.folder, tables={"table": DataTable((), ())})
    assert mirror_study(OFFLINE, empty) is not None
    (found,) = read_runs(summary.folder)
    assert found.rows == []
    assert said() == []


def test_ids_that_cannot_be_read_are_replaced(summary: StudySummary) -> None:
    summary.folder.mkdir(parents=True)
    (summary.folder / "tracking.json").write_text("[1")
    identity = mirror_study(OFFLINE, summary)
    assert json.loads((summary.folder / "tracking.json").read_text()) == {"run": identity}


def test_nothing_is_tracked_without_a_backend(summary: StudySummary) -> None:
    assert mirror_study(TrackingSpec(backend="none"), summary) is None
    assert not summary.folder.exists()
