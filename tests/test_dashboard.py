"""`python -m src.dashboard`: real processes, and panels that are held against a real run of ours."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from src.dashboard import main
from src.experiment.study import run_study
from src.records import StudyPaths
from src.spec import TrackingSpec
from tests.experiment.workplace import STUDY, build
from tests.record_factory import make_record, make_spec, save
from tests.tracking.stand_in import KEY, StandIn
from tests.tracking.wandb_file import RecordedRun, read_runs

ROOT = Path(__file__).resolve().parents[1]
WITHOUT_EXTRA = "import sys; sys.modules['wandb_workspaces'] = None; from src.dashboard import main; sys.exit(main())"
Result = subprocess.CompletedProcess[str]


@dataclass(frozen=True)
class Trained:
    """A study of two cells, and what one of them has told W&B."""

    output_dir: Path
    run: RecordedRun


def own(folder: Path) -> dict[str, str]:
    """Where wandb keeps its own files."""
    return {f"WANDB_{name}_DIR": str(folder / "home" / name) for name in ("CONFIG", "CACHE", "DATA")}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Trained]:
    root = tmp_path_factory.mktemp("dashboard")
    place, output_dir = build(root), root / "outputs"
    with pytest.MonkeyPatch.context() as patch:
        for name, value in own(root).items():
            patch.setenv(name, value)
        tracking = TrackingSpec(mode="offline", log_every=2)
        run_study([place.spec("qv", 2), place.spec("q", 4)], place.settings(output_dir, tracking=tracking))
        paths = StudyPaths.of(output_dir, STUDY)
        (folder,) = paths.runs.glob("qv-*")
        (recorded,) = read_runs(folder)
        yield Trained(output_dir, recorded)


def dashboard(output_dir: Path, *arguments: str, code: str | None = None, **environment: str) -> Result:
    start = ["-c", code] if code else ["-m", "src.dashboard"]
    return subprocess.run(
        [sys.executable, *start, *arguments, "--output-dir", str(output_dir)],
        cwd=ROOT,
        env={**os.environ, **own(output_dir.parent), **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def figures(paths: StudyPaths) -> set[str]:
    """The report's figures, by the names that W&B gets."""
    return {f"figures/{path.stem}" for path in (paths.report / "figures").glob("*.png")}


def nodes(content: Any) -> Iterator[dict[str, Any]]:
    if isinstance(content, dict):
        yield content
    for value in content.values() if isinstance(content, dict) else content if isinstance(content, list) else ():
        yield from nodes(value)


def has(config: Any, path: str) -> bool:
    """Whether a config has a key that W&B writes as ``optim.value.lr``."""
    for part in path.replace(".value", "", 1).split("."):
        if not isinstance(config, dict) or part not in config:
            return False
        config = config[part]
    return True


def read_by(panel: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """What a panel reads of a run: where, and under which name."""
    config = panel["config"]
    line = panel["viewType"] == "Run History Line Plot"
    if "groupBy" in config:
        yield "config", config["groupBy"]
    yield from (("history" if line else "summary", metric) for metric in config.get("metrics", ()))
    accessors = [column["accessor"] for column in config.get("columns", ())]
    for accessor in [*accessors, *(config[axis] for axis in ("xAxis", "yAxis", "zAxis") if axis in config)]:
        where, _, name = accessor.rpartition(":")
        yield where or "history", name
    yield from (("media", key) for key in config.get("mediaKeys", ()))


def test_without_a_key_all_is_written_and_every_panel_reads_what_our_runs_log(
    trained: Trained, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([STUDY, "--output-dir", str(trained.output_dir)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("Nothing was sent") and lines[0].endswith("report/wandb/dashboard.json.")
    assert lines[2].strip().startswith("wandb sync ")
    assert len(list(Path("/").glob(lines[2].split()[-1].lstrip("/")))) == 2

    paths = StudyPaths.of(trained.output_dir, STUDY)
    draft = json.loads((paths.report / "wandb" / "dashboard.json").read_text())
    (mirrored,) = read_runs(paths.root)
    run = trained.run
    logged = {name for row in run.rows for name in row}
    seen = set()
    for panel in (node for node in nodes(draft) if "viewType" in node):
        for where, name in read_by(panel):
            seen.add((where, name))
            match where:
                case "config":
                    assert has(run.config, name), name
                case "summary":
                    assert isinstance(run.summary[name], float), name
                case "history":
                    assert name in logged, name
                case "media":
                    assert name in mirrored.summary, name
    assert {("config", "rank.value"), ("config", "lora.value.targets"), ("config", "optim.value.lr")} <= seen
    assert {("summary", "best_validation/accuracy"), ("summary", "test/accuracy"), ("history", "step")} <= seen
    assert {("history", "validation/accuracy"), ("history", "train/loss")} <= seen
    assert {name for where, name in seen if where == "media"} == figures(paths) != set()
    assert not has(run.config, "lora.value.nothing")
    assert has(run.config, "method_name.value")  # what panels by method read, where a study has several
    groups = {node["value"] for node in nodes(draft) if node.get("key") == {"section": "run", "name": "group"}}
    assert groups == {run.run.run_group}
    assert run.run.job_type == "train"


def test_with_a_key_all_three_arrive(trained: Trained) -> None:
    with StandIn() as server:
        environment = {"WANDB_API_KEY": KEY, "WANDB_BASE_URL": server.url}
        result = dashboard(trained.output_dir, STUDY, "--entity", "tester", **environment)
    assert (result.returncode, result.stderr) == (0, "")
    assert [line.split()[0] for line in result.stdout.splitlines()] == ["Workspace:", "Report:", "Sent:"]
    (run,) = server.runs.values()
    assert (run.variables["jobType"], run.variables["groupName"], run.summary["cells"]) == ("summary", STUDY, 2)
    assert figures(StudyPaths.of(trained.output_dir, STUDY)) | {"tables/table"} <= set(run.summary)
    assert len(server.api.views) == 2
    assert not any(KEY in body for _, body in server.bodies)


def test_without_the_extra_nothing_happens_but_a_sentence(tmp_path: Path) -> None:
    save(tmp_path / "outputs", "s", make_record(make_spec()))
    result = dashboard(tmp_path / "outputs", "s", code=WITHOUT_EXTRA)
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr == (
        "The dashboard needs the package wandb-workspaces, which is not installed; this command installs it: "
        'python -m pip install -c constraints.txt -e ".[dashboard]"\n'
    )
    assert not (tmp_path / "outputs" / "s" / "report").exists()


def test_a_study_that_is_not_there_or_empty_is_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save(tmp_path, "a", make_record(make_spec()))
    StudyPaths.of(tmp_path, "empty").run("half").root.mkdir(parents=True)
    assert main(["nowhere", "--output-dir", str(tmp_path)]) == 1
    said = f"No study 'nowhere' in {tmp_path}; there are: a, empty. Another folder takes --output-dir <folder>.\n"
    assert capsys.readouterr().err == said
    assert main(["empty", "--output-dir", str(tmp_path)]) == 1
    assert "has no records so far: there is nothing to show." in capsys.readouterr().err
