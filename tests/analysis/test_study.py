"""Real studies of a tiny model, a few steps each, analysed from what lies on disk."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

from src.adapters.peft_import import from_peft, read_peft
from src.analysis.base_svd import svd_of, weight_of
from src.analysis.behaviour import Probe
from src.analysis.questions import truncation_rows
from src.analysis.study import MAX_BEHAVIOUR, Analysis, Options, analyse_folders, analyse_study, write_tables
from src.analysis.subjects import candidates, load_candidates
from src.analysis.tables import LAYOUTS
from src.errors import HarnessError
from src.experiment.study import run_study
from src.models.loading import load_base
from src.records import RunPaths, StudyPaths, read_analysis, read_record, read_study
from src.spec import ModelSpec, RunSpec, TaskKind
from tests.experiment.workplace import STUDY, Workplace, build
from tests.tiny import tiny_base

STEPS = {"max_steps": 6, "eval_every": 6, "batch_size": 4}


def cells(place: Workplace) -> list[RunSpec]:
    """Two ranks and two learning rates of q and v over two seeds, and the head alone."""
    grid = [(rank, seed, lr) for rank in (2, 8) for seed in (0, 1) for lr in (3e-2, 1e-3)]
    adapted = [place.spec("qv", rank, seed=seed, lr=lr, **STEPS) for rank, seed, lr in grid]
    return [*adapted, place.spec("none", seed=0, **STEPS)]


@dataclasses.dataclass(frozen=True)
class Done:
    place: Workplace
    output: Path

    @property
    def paths(self) -> StudyPaths:
        return StudyPaths.of(self.output, STUDY)

    def options(self, examples: int = 8) -> Options:
        return Options(self.place.cache, torch.device("cpu"), examples)

    def analyse(self, examples: int = 8) -> Analysis:
        return analyse_study(read_study(self.paths), self.paths, self.options(examples))

    def copy(self, to: Path) -> Done:
        shutil.copytree(self.output, to / "copy")
        return Done(self.place, to / "copy")


def train(root: Path, model_type: str, kind: TaskKind, specs: Callable[[Workplace], list[RunSpec]]) -> Done:
    place = build(root, model_type, kind)
    assert run_study(specs(place), place.settings(root / "outputs")).num_failed == 0
    return Done(place, root / "outputs")


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Done:
    return train(tmp_path_factory.mktemp("bert"), "bert", "classification", cells)


@pytest.fixture(scope="module")
def found(done: Done) -> Analysis:
    return done.analyse()


def test_every_table_is_there_and_reads_back_as_written(done: Done, found: Analysis, tmp_path: Path) -> None:
    assert found.tables.keys() == LAYOUTS.keys()
    assert (found.skipped, found.notes) == ([], [])
    write_tables(found, tmp_path)
    back = read_analysis(tmp_path)
    assert back.keys() == LAYOUTS.keys()
    for name, table in back.items():
        assert tuple(table.columns) == LAYOUTS[name].columns
        assert table.columns == found.tables[name].columns
        assert len(table) > 0


def test_only_the_learning_rate_that_validation_chose_is_analysed(done: Done, found: Analysis) -> None:
    runs = found.tables["size"].notes["runs"]
    specs = [read_record(done.paths.run(name).record).run_spec() for name in runs]
    assert {(spec.lora.rank, spec.seed) for spec in specs} == {(2, 0), (2, 1), (8, 0), (8, 1)}
    assert len({(spec.lora.rank, spec.optim.lr) for spec in specs}) == 2
    assert set(found.tables["size"].columns["run"]) == set(runs)


def test_the_numbers_are_those_of_dense_algebra_on_the_saved_files(done: Done, found: Analysis) -> None:
    base = load_base(
        ModelSpec(str(done.place.model)), "classification", done.place.cache, device=torch.device("cpu"),
        dtype=torch.float32, attention="sdpa",
    )  # fmt: skip
    rows = {
        name: {(r["run"], r["letter"], r["layer"]): r for r in found.tables[name].rows()}
        for name in ("size", "amplification", "correlation")
    }
    name = found.tables["size"].notes["runs"][0]
    loaded = from_peft(base.projections, read_peft(done.paths.run(name).adapter))
    assert len(loaded.adapters) == 4
    for p in base.projections:
        if p.key not in loaded.adapters:
            continue
        place, delta, w = (
            (name, p.letter, p.layer),
            loaded.adapters[p.key].delta().double(),
            weight_of(base.backbone, p),
        )
        u, s, vh = torch.linalg.svd(delta)
        r = rows["size"][place]["rank"]
        assert rows["size"][place]["frobenius"] == pytest.approx(float(delta.norm()), rel=1e-5)
        assert rows["size"][place]["spectral"] == pytest.approx(float(s[0]), rel=1e-5)
        along = torch.linalg.matrix_norm(u[:, :r].T @ w.double() @ vh[:r].T)
        assert rows["amplification"][place]["along_dw"] == pytest.approx(float(along), rel=1e-4)
        cosine = F.cosine_similarity(delta.flatten(), w.double().flatten(), dim=0)
        assert rows["correlation"][place]["cosine"] == pytest.approx(float(cosine), abs=1e-5)


def test_ranks_seeds_base_and_letters_are_compared_with_chance_and_with_the_start(found: Analysis) -> None:
    rows = found.tables["subspace"].rows()
    assert {row["kind"] for row in rows} == {"ranks", "seeds", "base", "matrices"}
    assert all(row["random"] == max(row["i"], row["j"]) / 16 for row in rows)
    assert all((row["start"] is not None) == (row["kind"] in ("ranks", "seeds")) for row in rows)
    # Of one seed, the smaller rank's start lies in the larger one's.
    nested = [r for r in rows if r["kind"] == "ranks" and r["run_a"][-13:-10] == r["run_b"][-13:-10] and r["j"] == 8]
    assert nested and all(row["start"] == pytest.approx(1.0, abs=1e-5) for row in nested)


def test_scores_without_truncation_are_the_trainers_own(done: Done) -> None:
    """All 12 validation examples: what the record says."""
    chosen = candidates(read_study(done.paths), done.paths)
    ((_, runs),) = chosen.items()
    subjects, _ = load_candidates(runs, tiny_base("bert"))
    probe = Probe(subjects, 1000, done.place.cache, torch.device("cpu"))
    assert len(probe.chosen) == 12
    for lane, subject in probe.lanes.items():
        assert subject.candidate is not None
        scores = subject.candidate.record.metrics.validation
        assert scores is not None and probe.score(lane) == pytest.approx(scores["accuracy"])


def test_truncation_ends_with_w0_as_it_was(done: Done, found: Analysis) -> None:
    rows = found.tables["truncation"].rows()
    assert {row["letter"] for row in rows} == {"q", "v"}
    assert {row["k"] for row in rows if row["letter"] == "q"} == {1, 2, 4, 8, 16}
    assert len({row["score"] for row in rows if row["k"] == 16}) == 1
    assert {(row["metric"], row["split"]) for row in rows} == {("accuracy", "validation")}
    chosen = candidates(read_study(done.paths), done.paths)
    ((_, runs),) = chosen.items()
    subjects, _ = load_candidates(runs[:1], tiny_base("bert"))
    probe = Probe(subjects, 8, done.place.cache, torch.device("cpu"))
    before = {p.key: weight_of(probe.base.backbone, p).clone() for p in probe.base.projections}
    truncation_rows(probe, 1, {key: svd_of(weight) for key, weight in before.items()})
    assert all(torch.equal(weight_of(probe.base.backbone, p), before[p.key]) for p in probe.base.projections)


def test_forgetting_of_an_encoder_is_a_cosine_below_one(found: Analysis) -> None:
    rows = found.tables["forgetting"].rows()
    assert len(rows) == 4
    assert {(row["measure"], row["before"], row["examples"]) for row in rows} == {("cosine", 1.0, 8)}
    assert all(0.0 < row["after"] < 1.0 for row in rows)


def test_without_examples_both_tables_are_left_out_and_an_old_one_goes(done: Done, tmp_path: Path) -> None:
    write_tables(done.analyse(4), tmp_path)
    write_tables(done.analyse(0), tmp_path)
    assert read_analysis(tmp_path).keys() == LAYOUTS.keys() - {"truncation", "forgetting"}


def test_damaged_runs_are_left_out_and_listed(done: Done, tmp_path: Path) -> None:
    copy = done.copy(tmp_path)
    names = done.analyse(0).tables["size"].notes["runs"]
    runs = [copy.paths.run(name) for name in names]
    runs[0].adapter_weights.write_bytes(b"damaged")
    runs[1].head.unlink()
    head_alone = next(copy.paths.runs.glob("none*")) / "record.json"
    head_alone.write_text("{")
    analysis = copy.analyse()
    assert [skipped.path for skipped in analysis.skipped] == [head_alone, runs[0].adapter]
    assert len(analysis.notes) == 1 and names[1] in analysis.notes[0]
    assert set(analysis.tables["size"].columns["run"]) == set(names[1:])
    assert set(analysis.tables["forgetting"].columns["run"]) == set(names[2:])


def test_data_that_are_gone_cost_only_the_tables_that_need_them(done: Done, tmp_path: Path) -> None:
    copy = done.copy(tmp_path)
    for run in copy.paths.runs.iterdir():
        record = json.loads((run / "record.json").read_text())
        record["spec"]["task"]["path"] = str(tmp_path / "gone.csv")
        (run / "record.json").write_text(json.dumps(record))
    analysis = copy.analyse()
    assert analysis.tables.keys() == LAYOUTS.keys() - {"truncation", "forgetting"}
    assert "truncation and forgetting of 4 runs left out" in analysis.notes[0]


@pytest.mark.parametrize("targets", ["qv", "qkvo"])
def test_a_language_model_with_fused_weights_and_one_cell(tmp_path: Path, targets: str) -> None:
    done = train(tmp_path, "gpt2", "causal_lm", lambda place: [place.spec(targets, 2, **STEPS)])
    analysis = done.analyse()
    assert analysis.notes == []
    assert {row["kind"] for row in analysis.tables["subspace"].rows()} == {"base", "matrices"}
    assert set(analysis.tables["size"].columns["letter"]) == set(targets)
    assert set(analysis.tables["size"].columns["rank"]) == {2}
    (row,) = analysis.tables["forgetting"].rows()
    assert row["measure"] == "loss"
    # A random model of 100 words knows nothing: log 100 nats a token.
    assert row["before"] == pytest.approx(4.6, abs=0.5) and row["after"] != row["before"]
    assert {row["metric"] for row in analysis.tables["truncation"].rows()} == {"loss"}


def test_an_encoder_decoder_is_analysed_in_all_its_stacks(tmp_path: Path) -> None:
    done = train(tmp_path, "t5", "seq2seq", lambda place: [place.spec("qv", 2, stacks="decoder", **STEPS)])
    analysis = done.analyse()
    assert analysis.notes == []
    (row,) = analysis.tables["forgetting"].rows()
    assert (row["measure"], row["before"]) == ("cosine", 1.0)
    assert 0 < row["after"] < 1  # the encoder is as it was, so these are the decoder's states
    assert {row["metric"] for row in analysis.tables["truncation"].rows()} == {"loss"}


def test_regression(tmp_path: Path) -> None:
    done = train(tmp_path, "roberta", "regression", lambda place: [place.spec("d", 1, **STEPS)])
    analysis = done.analyse()
    assert {row["metric"] for row in analysis.tables["truncation"].rows()} == {"mse"}
    assert set(analysis.tables["subspace"].columns["kind"]) == {"base"}


def test_more_runs_than_are_evaluated_is_said(done: Done, monkeypatch: pytest.MonkeyPatch) -> None:
    assert MAX_BEHAVIOUR > 4
    monkeypatch.setattr("src.analysis.study.MAX_BEHAVIOUR", 3)
    analysis = done.analyse(4)
    assert analysis.notes == ["forgetting: the first 3 of 4 runs only."]
    assert len(analysis.tables["forgetting"]) == 3


def test_nothing_to_analyse_is_one_sentence(done: Done, tmp_path: Path) -> None:
    copy = done.copy(tmp_path)
    for run in list(copy.paths.runs.iterdir()):
        if not run.name.startswith("none"):
            shutil.rmtree(run)
    with pytest.raises(HarnessError, match=r"head alone \(targets none\)"):
        copy.analyse()
    shutil.rmtree(copy.paths.runs)
    with pytest.raises(HarnessError, match="no completed run with adapters"):
        copy.analyse()


def test_adapters_of_another_base_do_not_fit(done: Done, tmp_path: Path) -> None:
    other = build(tmp_path, "llama")
    folder = RunPaths(next(run for run in done.paths.runs.iterdir() if run.name.startswith("qv"))).adapter
    with pytest.raises(HarnessError, match="does not fit the base"):
        analyse_folders([folder], ModelSpec(str(other.model)), done.options())
    own = analyse_folders([folder], ModelSpec(str(done.place.model)), done.options())
    assert own.tables.keys() == LAYOUTS.keys() - {"truncation", "forgetting"}
