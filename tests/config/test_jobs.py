"""Sweeps whose cells are jobs: planned before the first job, told apart afterwards by their records alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from src.cluster.state import StudyView
from src.config.cells import Cell
from src.config.compose import compose_config
from src.config.jobs import Ended, run_as_jobs, run_job
from src.errors import BadCellsError, ConfigError, HarnessError, InterruptedRunError
from src.records import StudyPaths, read_plan
from tests.experiment.workplace import Workplace, build, record_of, snapshot

Make = Callable[..., Cell]
DIVERGES = ("optim.lr=1e30", "optim.clip=null")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Workplace:
    return build(tmp_path_factory.mktemp("jobs"))


@pytest.fixture
def cell(place: Workplace, tmp_path: Path) -> Make:
    def make(*overrides: str) -> Cell:
        common = [
            f"model.path={place.model}", "task=own", f"task.path={place.data}", "task.max_length=16",
            "task.validation_size=12", "task.test_size=12", "trainer.max_steps=2", "trainer.batch_size=8",
            "trainer.dtype=float32", "tracking=none", "study=tiny", f"output_dir={tmp_path}",
            f"cache_dir={place.cache}", "device=cpu",
        ]  # fmt: skip
        return Cell(" ".join(overrides), compose_config([*common, *overrides]))

    return make


class Jobs:
    """Runs the jobs here, one after the other, and keeps which; jobs at `killed` places never run."""

    def __init__(self, cells: Sequence[Cell], killed: Sequence[int] = ()) -> None:
        self.cells, self.killed = cells, killed
        self.started: list[int] = []

    def __call__(self, places: Sequence[int], ended: Ended) -> None:
        for place in places:
            self.started.append(place)
            try:
                if place in self.killed:
                    raise HarnessError("nobody knows what has become of the job")
                run_job(self.cells[place])
                ended(place, None)
            except HarnessError as error:
                ended(place, str(error))


def test_each_cell_runs_once_and_all_are_reported_together(cell: Make, tmp_path: Path) -> None:
    cells = [cell("lora.rank=1"), cell("lora.rank=2"), cell("lora.rank=1")]
    jobs, paths = Jobs(cells), StudyPaths.of(tmp_path, "tiny")
    scores = run_as_jobs(cells, jobs)
    assert jobs.started == [0, 1]
    assert scores[0] == scores[2]
    assert None not in scores
    assert len(read_plan(paths)) == 2
    assert paths.page.exists()
    before = snapshot(paths.runs)
    again = Jobs(cells)
    assert run_as_jobs(cells, again) == scores
    assert again.started == []
    assert snapshot(paths.runs) == before


def test_a_job_writes_no_report_and_leaves_the_plan(cell: Make, tmp_path: Path) -> None:
    cells, paths = [cell("lora.rank=1"), cell("lora.rank=2")], StudyPaths.of(tmp_path, "tiny")

    def start(places: Sequence[int], ended: Ended) -> None:
        planned = read_plan(paths)
        run_job(cells[places[0]])
        assert not paths.report.exists()
        assert read_plan(paths) == planned
        assert [state.state for state in StudyView(paths).cells([], {})] == ["done", "queued"]

    with pytest.raises(HarnessError, match="1 of 2 cells"):
        run_as_jobs(cells, start)


def test_jobs_that_fail_leave_the_others_and_those_without_a_record_are_told(
    cell: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cells = [cell("lora.rank=1"), cell("lora.rank=2"), cell("lora.rank=3", *DIVERGES)]
    with pytest.raises(HarnessError, match=r"^2 of 3 cells of the study tiny did not complete"):
        run_as_jobs(cells, Jobs(cells, killed=[0]))
    runs = StudyPaths.of(tmp_path, "tiny").runs
    assert sorted(record_of(StudyPaths.of(tmp_path, "tiny").run(run.name))["status"] for run in runs.iterdir()) == [
        "completed",
        "diverged",
    ]
    said = capsys.readouterr().err
    assert "qv-r1-" in said and ": nobody knows what has become of the job\n" in said
    assert [line.split(": ")[1] for line in said.splitlines() if line.endswith("/3)")] == [
        "not complete (1/3)",
        "completed, validation " + said.split("completed, validation ")[1].split(" ")[0] + " (2/3)",
        "diverged (3/3)",
    ]


def test_an_old_record_hides_no_new_cause(
    cell: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    cells, paths = [cell("lora.rank=1")], StudyPaths.of(tmp_path, "tiny")
    with monkeypatch.context() as patch, pytest.raises(HarnessError):
        patch.setattr("src.experiment.work.run_pack", None)
        run_as_jobs(cells, Jobs(cells))
    (run,) = paths.runs.iterdir()
    assert record_of(paths.run(run.name))["status"] == "failed"
    capsys.readouterr()
    with pytest.raises(HarnessError):
        run_as_jobs(cells, Jobs(cells, killed=[0]))
    assert "nobody knows what has become of the job" in capsys.readouterr().err


def test_two_studies_are_checked_before_one_forgets_anything(cell: Make, tmp_path: Path) -> None:
    good = [cell("lora.rank=1"), cell("lora.rank=1", "study=other")]
    run_as_jobs(good, Jobs(good))
    before = snapshot(tmp_path / "tiny")
    wrong = [cell("lora.rank=1", "rerun=true"), cell("lora.rank=1", "study=other", "rerun=true", "task.metric=f1")]
    with pytest.raises(ConfigError, match=r"task\.metric is 'f1'"):
        run_as_jobs(wrong, Jobs(wrong))
    assert snapshot(tmp_path / "tiny") == before


@pytest.mark.parametrize("error", [KeyboardInterrupt(), InterruptedRunError("Stopped")])
def test_a_stop_is_passed_on_when_all_is_reported(cell: Make, tmp_path: Path, error: BaseException) -> None:
    cells = [cell("lora.rank=1"), cell("lora.rank=2")]

    def start(places: Sequence[int], ended: Ended) -> None:
        run_job(cells[places[0]])
        raise error

    with pytest.raises(type(error)):
        run_as_jobs(cells, start)
    assert "qv" in StudyPaths.of(tmp_path, "tiny").table_markdown.read_text()


def test_what_cannot_be_submitted_leaves_what_has_ended(
    cell: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cells = [cell("lora.rank=1"), cell("lora.rank=2")]

    def start(places: Sequence[int], ended: Ended) -> None:
        run_job(cells[places[0]])
        raise HarnessError("sbatch is away")

    with pytest.raises(HarnessError, match="1 of 2 cells"):
        run_as_jobs(cells, start)
    assert "sbatch is away" in capsys.readouterr().err
    assert StudyPaths.of(tmp_path, "tiny").page.exists()


def test_rerun_forgets_once_and_not_again_in_the_jobs(cell: Make, tmp_path: Path) -> None:
    cells = [cell("lora.rank=1")]
    run_as_jobs(cells, Jobs(cells))
    again = [cell("lora.rank=1", "rerun=true")]
    jobs = Jobs(again)
    run_as_jobs(again, jobs)
    assert jobs.started == [0]
    before = snapshot(StudyPaths.of(tmp_path, "tiny").runs)
    run_job(again[0])  # as a job does that was requeued
    assert snapshot(StudyPaths.of(tmp_path, "tiny").runs) == before


@pytest.mark.parametrize(
    ("wrong", "error", "said"),
    [
        ("lora.rank=0", BadCellsError, "lora.rank is 0"),
        ("lora.rank=999", BadCellsError, "lora.rank is 999"),
        ("halving.eta=2", ConfigError, "halving.eta is 2; allowed: null where each cell is a job of its own"),
        ("model.path=/no/such/model", HarnessError, "/no/such/model"),
    ],
)
def test_what_is_wrong_is_told_before_the_first_job(cell: Make, wrong: str, error: type, said: str) -> None:
    cells = [cell("lora.rank=1", "study=other")] * (error is BadCellsError) + [cell(wrong)]
    jobs = Jobs(cells)
    with pytest.raises(error, match=said):
        run_as_jobs(cells, jobs)
    assert jobs.started == []


def test_a_study_that_cannot_begin_leaves_the_other_its_jobs(cell: Make) -> None:
    cells = [cell("model.path=/no/such/model", "study=other"), cell("lora.rank=1")]
    jobs = Jobs(cells)
    with pytest.raises(HarnessError, match="/no/such/model"):
        run_as_jobs(cells, jobs)
    assert jobs.started == [1]
