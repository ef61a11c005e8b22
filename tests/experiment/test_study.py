"""A study from specs to records, reports and adapters: all real, on a tiny model and data."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from safetensors.torch import load_file
from torch.nn import functional as F
from transformers import AutoModel

from src.data import collate, load_task
from src.errors import BadCellsError, ConfigError, HarnessError, WriteError
from src.experiment.study import run_study
from src.models.loading import load_tokenizer
from src.records import StudyPaths, read_record
from src.spec import TEXT_KINDS, ModelSpec, RunSpec, TaskKind, run_spec_from_dict, to_dict
from tests.experiment.workplace import STUDY, Workplace, build, record_of, results, snapshot
from tests.tiny import tiny
from tests.tiny_files import write_csv


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Workplace:
    return build(tmp_path_factory.mktemp("place"))


def four(place: Workplace, **changes: Any) -> list[RunSpec]:
    cells = [("qv", 1), ("all", 4), ("o", 3), ("none", None)]
    return [place.spec(targets, rank, **changes) for targets, rank in cells]


def files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


ADAPTER = {"adapter/adapter_config.json", "adapter/adapter_model.safetensors"}
ALWAYS = {"metrics.jsonl", "record.json", "head.safetensors", "predictions.safetensors"}


@pytest.fixture(scope="module")
def done(place: Workplace, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The output folder of a study of four cells that ran to its end."""
    output = tmp_path_factory.mktemp("done")
    outcome = run_study(four(place), place.settings(output))
    assert outcome.num_failed == 0
    assert all(isinstance(score, float) for score in outcome.scores)
    return output


def test_every_cell_leaves_its_files_and_no_checkpoint(place: Workplace, done: Path) -> None:
    *adapted, head_only = place.runs(four(place), done)
    assert all(files(run.root) == ADAPTER | ALWAYS for run in adapted)
    assert files(head_only.root) == ALWAYS
    around = files(done / STUDY) - {f"runs/{name}" for name in files(done / STUDY / "runs")}
    assert around >= {
        "study.log",
        "plan.json",
        "report/index.html",
        "report/report.md",
        "report/table.md",
        "report/table.csv",
    }
    assert all(name in {"study.log", "plan.json"} or name.startswith(("report/", ".claims/")) for name in around)


def test_a_record_holds_all_that_is_known(place: Workplace, done: Path) -> None:
    for spec, run in zip(four(place), place.runs(four(place), done), strict=True):
        record = record_of(run)
        assert {"run_id", "status", "error", "spec", "params", "metrics", "best_epoch", "time", "memory", "env",
                "data", "tracking", "eliminated", "schema_version"} == record.keys()  # fmt: skip
        assert (record["run_id"], record["status"], record["error"]) == (run.root.name, "completed", None)
        resolved = run_spec_from_dict(record["spec"])
        assert {**to_dict(resolved), "lora": None} == {**to_dict(spec), "lora": None}
        assert resolved.lora.targets == {"all": "qkvoud"}.get(spec.lora.targets, spec.lora.targets)
        assert {"validation", "test", "history"} == record["metrics"].keys()
        assert record["metrics"]["validation"].keys() == record["metrics"]["test"].keys() >= {"accuracy", "loss"}
        assert [point["step"] for point in record["metrics"]["history"]] == [6, 12]
        best = max(record["metrics"]["history"], key=lambda point: point["validation"]["accuracy"])
        assert record["metrics"]["validation"] == best["validation"]
        assert record["best_epoch"] == best["epoch"]
        time = record["time"]
        assert time["total_s"] > time["train_s"] > 0
        assert time["tokens_per_s"] == pytest.approx(time["tokens"] / time["train_s"])
        assert time["pack_size"] == 4
        assert record["memory"]["peak_bytes"] is None or record["memory"]["peak_bytes"] > 10**7
        assert {"versions", "device", "dtype", "git"} <= record["env"].keys()
        assert (record["env"]["device"], record["env"]["dtype"]) == ("cpu", "float32")
        assert record["env"]["git"].keys() == {"commit", "dirty"}
        assert record["data"]["splits"]["train"]["examples"] == 66
        assert record["data"]["label_names"] == ["blue", "green", "red"]
        assert record["tracking"] == {"backend": None, "id": None}


def test_parameters_are_counted_by_hand(place: Workplace, done: Path) -> None:
    counts = [record_of(run)["params"] for run in place.runs(four(place), done)]
    per_rank = {"qv": 2 * 2 * 32, "all": 2 * (4 * 32 + 2 * 40), "o": 2 * 32}
    adapters = [1 * per_rank["qv"], 4 * per_rank["all"], 3 * per_rank["o"], 0]
    assert [params["adapter"] for params in counts] == adapters
    assert [params["rank"] for params in counts] == [1, 4, 3, None]
    assert {params["head"] for params in counts} == {3 * 16 + 3}
    assert {params["base"] for params in counts} == {sum(p.numel() for p in tiny("bert").parameters())}


def test_a_budget_is_recorded_as_asked_achieved_and_left_over(place: Workplace, tmp_path: Path) -> None:
    spec = place.spec("qv", None, budget=300)
    run_study([spec], place.settings(tmp_path))
    (run,) = place.runs([spec], tmp_path)
    params = record_of(run)["params"]
    assert params["budget"] == {"requested": 300, "achieved": 256, "residual": 44}
    assert (params["rank"], params["adapter"]) == (2, 256)


def test_the_files_give_the_scores_of_the_record(place: Workplace, tmp_path: Path) -> None:
    """By plain transformers, the real peft and the saved head: what a person can do with a run's folder.

    The learning rate is too high, so the best validation is not the last, and the files must be of the best.
    """
    spec = place.spec("all", 4, metric="loss", lr=0.1, head_lr=0.1, max_steps=21, eval_every=3, schedule="constant")
    run_study([spec], place.settings(tmp_path))
    (run,) = place.runs([spec], tmp_path)
    metrics = record_of(run)["metrics"]
    assert metrics["history"][-1]["validation"] != metrics["validation"]
    data = load_task(spec.task, load_tokenizer(ModelSpec(str(place.model)), place.cache), place.cache)
    model = peft.PeftModel.from_pretrained(AutoModel.from_pretrained(place.model), run.adapter)
    head = load_file(run.head)
    for name, split in (("validation", data.validation), ("test", data.test)):
        batch = collate(split, torch.arange(len(split)), data.pad_id)
        with torch.no_grad():
            hidden = model(input_ids=batch.input_ids, attention_mask=batch.attention_mask).last_hidden_state
        mask = batch.attention_mask.unsqueeze(-1)
        logits = (hidden * mask).sum(dim=1) / mask.sum(dim=1) @ head["head.weight"].T + head["head.bias"]
        right = (logits.argmax(dim=1) == batch.labels).double().mean().item()
        assert metrics[name]["accuracy"] == pytest.approx(right)
        assert metrics[name]["loss"] == pytest.approx(F.cross_entropy(logits, batch.labels).item(), rel=1e-5)
    assert logits.argmax(dim=1).tolist() == load_file(run.predictions)["prediction"].tolist()


def test_the_report_lists_every_cell_best_first(place: Workplace, done: Path) -> None:
    paths = StudyPaths.of(done, STUDY)
    rows = list(csv.DictReader(paths.table_csv.read_text().splitlines()))
    listed = sorted(run_id for row in rows for run_id in row["run_ids"].split())
    assert listed == sorted(run.root.name for run in place.runs(four(place), done))
    scores = [float(row["validation_accuracy"]) for row in rows]
    assert scores == sorted(scores, reverse=True)
    markdown = paths.table_markdown.read_text()
    assert "Best by validation accuracy: " in markdown
    assert markdown.count("\n| ") == 2 + 4


def test_the_same_again_trains_nothing_and_changes_no_run(place: Workplace, done: Path) -> None:
    before = snapshot(done / STUDY / "runs")
    outcome = run_study(four(place), place.settings(done, pack=2))
    assert snapshot(done / STUDY / "runs") == before
    assert outcome.num_failed == 0
    assert outcome.scores == [
        record_of(run)["metrics"]["validation"]["accuracy"] for run in place.runs(four(place), done)
    ]
    assert "4 cells, 4 done" in (done / STUDY / "study.log").read_text()


def test_rerun_runs_again_what_is_asked_for_and_comes_to_the_same(place: Workplace, tmp_path: Path) -> None:
    specs = four(place)
    run_study(specs, place.settings(tmp_path))
    runs = place.runs(specs, tmp_path)
    before, results_before = snapshot(tmp_path / STUDY / "runs"), results(runs)
    (runs[0].root / "stray").write_text("from an older version")
    run_study(specs[:2], place.settings(tmp_path, rerun=True))
    after = snapshot(tmp_path / STUDY / "runs")
    changed = {name.split("/")[0] for name, (time, _) in after.items() if before[name][0] != time}
    assert changed == {run.root.name for run in runs[:2]}
    assert after.keys() == before.keys()
    again = results(runs)
    assert again[2:] == results_before[2:]
    for (mine, _), (earlier, _) in zip(again, results_before, strict=True):
        assert mine[1]["test"]["accuracy"] == earlier[1]["test"]["accuracy"]


def test_cells_that_come_to_the_same_run_once(place: Workplace, tmp_path: Path) -> None:
    specs = [place.spec("qv"), place.spec("vq"), place.spec("none"), place.spec("none", lr=0.5)]
    outcome = run_study(specs, place.settings(tmp_path))
    assert len(list((tmp_path / STUDY / "runs").iterdir())) == 2
    assert outcome.scores[0] == outcome.scores[1]
    assert outcome.scores[2] == outcome.scores[3]


def test_pack_size_does_not_matter(place: Workplace, tmp_path: Path) -> None:
    """Also over seeds: different data orders in one pack."""
    specs = [spec for seed in (0, 1) for spec in four(place, seed=seed, dtype="float64", dropout=0.1)[:3]]
    found = []
    for size, largest in ((1, 1), (4, 3), (8, 6)):
        run_study(specs, place.settings(tmp_path / str(size), pack=size))
        runs = place.runs(specs, tmp_path / str(size))
        found.append([(record_of(run)["metrics"], load_file(run.adapter_weights)) for run in runs])
        assert max(record_of(run)["time"]["pack_size"] for run in runs) == largest
    for other in found[1:]:
        torch.testing.assert_close(other, found[0], rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(
    ("kind", "model_type"), [("regression", "roberta"), ("causal_lm", "llama"), ("seq2seq", "bart")]
)
def test_other_kinds_of_task_go_the_same_way(kind: TaskKind, model_type: str, tmp_path: Path) -> None:
    place = build(tmp_path, model_type, kind)
    specs = [place.spec("qv"), place.spec("none")]
    outcome = run_study(specs, place.settings(tmp_path / "out"))
    assert outcome.num_failed == 0
    adapted, plain = (record_of(run) for run in place.runs(specs, tmp_path / "out"))
    assert adapted["metrics"]["validation"][specs[0].task.metric] is not None
    assert adapted["metrics"]["test"]["loss"] is not None
    assert plain["params"]["adapter"] == 0
    if kind in TEXT_KINDS:  # nothing to train: the base itself, measured
        assert (plain["time"]["tokens"], plain["params"]["head"]) == (0, 0)
        assert len(plain["metrics"]["history"]) == 1
        assert adapted["metrics"]["test"]["loss"] < plain["metrics"]["test"]["loss"]


def test_a_cell_that_diverges_is_recorded_with_its_cause_and_not_tried_again(place: Workplace, tmp_path: Path) -> None:
    hot = place.spec("q", alpha=1e30, lr=1e10, clip=None)
    outcome = run_study([hot, place.spec("qv")], place.settings(tmp_path))
    assert outcome.num_failed == 1
    assert outcome.scores[0] is None
    diverged, fine = place.runs([hot, place.spec("qv")], tmp_path)
    record = record_of(diverged)
    assert (record["status"], record["error"]["type"]) == ("diverged", "DivergedError")
    assert "try a lower optim.lr" in record["error"]["message"]
    assert record["metrics"]["test"] is None
    assert files(diverged.root) == {"record.json"}
    assert files(fine.root) == ADAPTER | ALWAYS
    assert "diverged" in (tmp_path / STUDY / "report" / "table.md").read_text()
    before = snapshot(tmp_path / STUDY / "runs")
    assert run_study([hot, place.spec("qv")], place.settings(tmp_path)).num_failed == 1
    assert snapshot(tmp_path / STUDY / "runs") == before


def test_data_are_checked_before_anything_starts_or_is_removed(place: Workplace, tmp_path: Path) -> None:
    data = tmp_path / "data.csv"
    data.write_bytes(place.data.read_bytes())
    mine, output = Workplace(place.model, data, place.cache), tmp_path / "out"
    run_study([mine.spec("qv")], mine.settings(output))
    before = snapshot(output / STUDY / "runs")
    data.unlink()
    with pytest.raises(HarnessError, match=r"There is no data file .*data.csv"):
        run_study([mine.spec("qv")], mine.settings(output, rerun=True))
    assert snapshot(output / STUDY / "runs") == before
    with pytest.raises(HarnessError, match="There is no data file"):
        run_study([mine.spec("qv")], mine.settings(tmp_path / "new"))
    assert not (tmp_path / "new").exists()


def test_a_metric_that_does_not_fit_the_data_stops_all_cells_before_they_start(
    place: Workplace, tmp_path: Path
) -> None:
    wrong = place.spec("qv", metric="f1")
    with pytest.raises(ConfigError, match=r"task.metric is 'f1'; allowed: macro_f1 or accuracy.*here are 3"):
        run_study([wrong], place.settings(tmp_path))
    with pytest.raises(BadCellsError, match=r"1 of 2 cells cannot be run\.\n  qv-r2-\S+: task.metric is 'f1'"):
        run_study([place.spec("q"), wrong], place.settings(tmp_path))
    assert list(tmp_path.iterdir()) == []


def test_cells_of_a_file_that_has_changed_run_again(
    place: Workplace, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mine = Workplace(place.model, write_csv(tmp_path / "data.csv"), place.cache)
    specs, output = [mine.spec("qv"), place.spec("qv")], tmp_path / "out"
    run_study(specs, mine.settings(output))
    before = snapshot(output / STUDY / "runs")
    write_csv(mine.data, seed=1)
    run_study(specs, mine.settings(output))
    after = snapshot(output / STUDY / "runs")
    changed, same = mine.runs(specs, output)
    assert {name.split("/")[0] for name in after if after[name] != before[name]} == {changed.root.name}
    assert record_of(changed)["data"]["sha256"] != record_of(same)["data"]["sha256"]
    assert f"was trained on other contents of {mine.data} and runs again" in capsys.readouterr().err


def test_records_are_readable_by_the_reader_of_records(place: Workplace, done: Path) -> None:
    for run in place.runs(four(place), done):
        assert read_record(run.record).run_id == run.root.name


def test_an_output_folder_that_cannot_be_made_is_one_clear_error(place: Workplace, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(WriteError, match=r"Cannot write study.log in .*: Not a directory\.") as caught:
        run_study([place.spec("qv")], place.settings(tmp_path / "file"))
    assert caught.value.exit_code == 1
