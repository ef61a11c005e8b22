"""Sentences, sections and frames of studies with several methods."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pandas as pd

from src.comparison.methods import methods_at_one_budget as compare
from src.records import RunRecord, StudyPaths, read_study
from src.reporting import write_report
from src.reporting.answer import answer_table
from src.reporting.frames import findings_frame, run_frame
from src.reporting.methods import intrinsic_dimension, one_budget
from src.reporting.sections.methods import method_grid
from src.reporting.sections.scores import contender_grid, further_grid
from src.spec import FrozenMap
from tests.plots.studies import findings_of, grid_of_runs, method_run, methods_at_one_budget, run, subspaces
from tests.record_factory import make_record, make_spec, save


def report(tmp_path: Path, *records: RunRecord) -> StudyPaths:
    paths = save(tmp_path, "study", *records)
    write_report(read_study(paths), paths, within=0.01)
    return paths


def sections(paths: StudyPaths) -> list[str]:
    return [line[3:] for line in paths.report_markdown.read_text().splitlines() if line.startswith("## ")]


def test_a_study_of_plain_lora_has_no_word_on_methods(tmp_path: Path) -> None:
    records = grid_of_runs(seeds=2)
    paths = report(tmp_path, *records)
    assert not {"Methods at one budget", "Intrinsic dimension"} & {*sections(paths)}
    assert not {"method", "size"} & {*run_frame(records).columns}
    assert not {"method", "size"} & {*findings_frame([findings_of(*records)]).columns}
    assert not any("lora.dora" in column or "generate" in column for column in run_frame(records).columns)
    assert not (paths.report / "intrinsic_dimension.csv").exists()
    assert "method" not in " ".join(answer_table(findings_of(*records)))


def test_methods_of_one_budget_have_a_section_a_sentence_and_columns(tmp_path: Path) -> None:
    records = methods_at_one_budget()
    paths = report(tmp_path, *records)
    assert sections(paths)[:3] == ["Answer", "Methods at one budget", "Scores"]
    (sentence,) = one_budget(findings_of(*records))
    assert sentence.startswith(
        "Methods at one budget, at most 73,728 trained parameters, by test accuracy: "
        "LoRA qv r=8 (0.9017), DoRA qv r=8 (0.8960), "
    )
    assert "shown to be worse than LoRA: DoRA, rsLoRA" in sentence and "not told apart" not in sentence
    csv = pd.read_csv(paths.report / "findings.csv")
    assert csv.loc[csv["method"] == "prefix", ["size", "adapter_parameters"]].values.tolist() == [[16, 73_728]]
    assert csv.loc[csv["method"] == "full fine-tuning", ["targets", "rank", "size"]].isna().all(axis=None)
    assert {"method", "size"} <= {*pd.read_parquet(paths.report / "table.parquet").columns}
    assert (paths.figures / "methods.svg").exists()


def test_the_grid_of_methods_says_what_was_left_of_the_budget_and_flags_edges() -> None:
    findings = findings_of(*methods_at_one_budget())
    compared = compare(findings)
    assert compared is not None
    shown = method_grid(findings, compared)
    rows = {row[0]: dict(zip(shown.columns, row, strict=True)) for row in shown.rows}
    assert rows["LoRA"]["left of the budget"] == "61,440" and rows["prefix"]["left of the budget"] == "0"
    assert rows["LoRA"]["learning rate"] == "0.003 (lowest tried)" and rows["LoRA"]["difference from LoRA"] == "-"
    assert rows["full fine-tuning (reference)"]["trained parameters"] == "22,713,216"
    assert rows["head only (reference)"]["learning rate"] == "-"


def test_one_seed_is_said_and_nothing_is_tested() -> None:
    findings = findings_of(*methods_at_one_budget(seeds=1))
    (sentence,) = one_budget(findings)
    assert sentence.endswith("with fewer than two seeds in common nothing is tested.")
    compared = compare(findings)
    assert compared is not None
    assert not {"difference from LoRA", "Holm-corrected p", "over seeds"} & {*method_grid(findings, compared).columns}


def test_the_rank_sentence_is_about_lora_alone() -> None:
    """Full fine-tuning is best; of LoRA's ranks the smaller one suffices, whatever a smaller subspace does."""
    wiggle = (0.0, 0.0004, -0.0004, 0.0002)
    records = []
    for seed, shift in enumerate(wiggle):
        records += [method_run(0.9 + shift, seed=seed, method__name="full")]
        records += [run("qv", rank, 0.899 + rank / 1e5 - shift / 3, seed=seed) for rank in (2, 8)]
        records += [method_run(0.8985 + shift, seed=seed, method__name="random_subspace", method__size=8)]
    told = " ".join(answer_table(findings_of(*records)))
    assert (
        "Best by validation accuracy: full fine-tuning (lr 0.003)" in told and "22,713,216 trained parameters" in told
    )
    assert "Smallest rank that suffices: LoRA qv r=2 (alpha 16, lr 0.003), 3,072 adapter parameters" in told
    without = [r for r in records if r.run_spec().lora.targets == "none"]
    assert "rank" not in " ".join(answer_table(findings_of(*without)))


def test_where_more_than_rank_differs_nothing_is_said_of_rank() -> None:
    """DoRA beside LoRA, or ranks that differ within a cell: a smaller cell is not simply one of smaller rank."""
    plain = [run("qv", rank, 0.9, seed=0) for rank in (4, 8)]
    assert "rank" in " ".join(answer_table(findings_of(*plain))).replace("ranked", "")
    for other in ({"lora__dora": True}, {"lora__ranks": FrozenMap({"q": 1})}):
        mixed = [*plain, method_run(0.95, seed=0, **other)]
        told = " ".join(answer_table(findings_of(*mixed)))
        assert "smaller rank" not in told and "Smallest rank" not in told and "Nothing smaller" not in told


def test_d90_is_told_first_with_what_it_rests_on(tmp_path: Path) -> None:
    records = subspaces(full=0.88)
    told = answer_table(findings_of(*records))[1]
    assert told.startswith(
        "Intrinsic dimension, random subspace (SAID): d90 = 1,024, the smallest d tried whose mean score"
    )
    assert "90 % of full fine-tuning's test accuracy (0.7929 of 0.8810)" in told
    paths = report(tmp_path, *records)
    assert sections(paths)[1] == "Intrinsic dimension" and (paths.figures / "intrinsic-dimension.png").exists()
    frame = pd.read_csv(paths.report / "intrinsic_dimension.csv")
    assert frame["d"].tolist() == [64, 256, 1024, 4096] and set(frame["d90"]) == {1024}
    assert "intrinsic_dimension.csv" in paths.page.read_text()
    assert "cited at second hand" in paths.page.read_text()


def test_a_missing_d90_says_why() -> None:
    def told(*records: RunRecord) -> str:
        (sentence,) = intrinsic_dimension(findings_of(*records))
        return sentence

    failed = make_record(make_spec(method__name="full"), status="failed")
    assert "missing, as full fine-tuning (method=full)" in told(*subspaces(full=None), failed)
    assert "no d up to 256 reaches 90 % of full fine-tuning's" in told(*subspaces((64, 256)))
    assert "so d90 may be lower" in told(*subspaces(full=0.6))
    losses = [
        make_record(make_spec(task__metric="loss", method__name="random_subspace", method__size=d)) for d in (8, 9)
    ]
    full = make_record(make_spec(task__metric="loss", method__name="full"))
    assert "d90 is not defined for loss, of which lower is better" in told(*losses, full)
    heads = [run("none", 1, 0.85, seed=seed) for seed in range(3)]
    easy = told(*subspaces(), *heads)
    assert "the head alone reaches it too (0.8500), so d90 says little here" in easy
    assert "gains over the head alone (0.8959) is reached at d = 4,096" in easy


def test_further_scores_stand_in_a_table_of_their_own_and_foreign_names_are_escaped(tmp_path: Path) -> None:
    records = []
    for record in methods_at_one_budget(seeds=1):
        test = {**(record.metrics.test or {}), "macro_f1": 0.5, "<b>": 0.25}
        records.append(dataclasses.replace(record, metrics=dataclasses.replace(record.metrics, test=test)))
    shown = further_grid(findings_of(*records))
    assert shown is not None and shown.columns == ("configuration", "macro_f1", "<b>")
    assert further_grid(findings_of(*methods_at_one_budget(seeds=1))) is None
    lost = make_record(make_spec(method__name="full", optim__lr=9.0), status="diverged", message="<script>x</script>")
    page = report(tmp_path, *records, lost).page.read_text()
    assert "&lt;b&gt;" in page and "<b>" not in page and "<script" not in page


def test_ranks_by_matrix_are_shown(tmp_path: Path) -> None:
    records = [run("qv", 4, 0.8), run("qv", 8, 0.81, lora__ranks=FrozenMap(q=2))]
    labels = [row[0] for row in contender_grid(findings_of(*records)).rows]
    assert labels == ["qv r=8 {q: 2}", "qv r=4"]
    table = pd.read_csv(report(tmp_path, *records).report / "table.csv")
    assert table["ranks"].tolist()[0] == "8 {q: 2}"


def test_a_study_in_which_every_method_failed_still_has_a_page(tmp_path: Path) -> None:
    failed = [make_record(record.run_spec(), status="failed") for record in methods_at_one_budget(seeds=1)]
    text = report(tmp_path, *failed).report_markdown.read_text()
    assert "No cell that trains more than the head has a validation score" in text


def test_a_d_that_lost_seeds_is_said_not_to_be_judged(tmp_path: Path) -> None:
    lost = make_record(make_spec(method__name="random_subspace", method__size=1024, seed=9), status="diverged")
    records = [*subspaces(full=0.88), lost]
    (told,) = intrinsic_dimension(findings_of(*records))
    assert "d90 = 4,096" in told
    assert told.endswith("; not judged, as not all seeds completed: d = 1,024 (3 of 4 seeds), so d90 may be lower.")
    text = report(tmp_path, *records).report_markdown.read_text()
    (row,) = (line for line in text.splitlines() if line.startswith("| random subspace (SAID) | 1,024 |"))
    assert "3 of 4" in row and "not judged" in row
    (none_whole,) = intrinsic_dimension(
        findings_of(
            *subspaces((64, 1024)),
            *(
                make_record(make_spec(method__name="random_subspace", method__size=d, seed=9), status="failed")
                for d in (64, 1024)
            ),
        )
    )
    assert "missing, as no d has all of its seeds" in none_whole


def test_methods_of_one_budget_are_told_before_the_rank_and_by_the_score_that_is_shown() -> None:
    """Best on validation is not best on test: the sentence is in the order of its own numbers."""
    records = [
        make_record(make_spec("qv", 4, lora__rank=None, lora__budget=9216), 0.90, 0.92),
        make_record(make_spec("qv", 4, lora__rank=None, lora__budget=9216, lora__dora=True), 0.91, 0.90),
        make_record(make_spec(method__name="full"), 0.89, 0.91),
    ]
    told = answer_table(findings_of(*records))
    assert told[0].startswith("Best by validation accuracy: DoRA")
    assert "by test accuracy: LoRA qv r=8 (0.9200), DoRA qv r=8 (0.9000); as references full fine-tuning" in told[1]
    untested = dataclasses.replace(records[0], metrics=dataclasses.replace(records[0].metrics, test=None))
    told = answer_table(findings_of(untested, *records[1:]))
    assert "by validation accuracy: DoRA qv r=8 (0.9100), LoRA qv r=8 (0.9000)" in told[1]


def test_where_nothing_is_tested_no_place_and_no_word_on_differences_is_shown() -> None:
    one, three = (contender_grid(findings_of(*methods_at_one_budget(seeds=seeds))) for seeds in (1, 3))
    assert "place" not in one.columns and "difference" not in one.caption
    assert "place" in three.columns and "A difference is on test" in three.caption
    findings = findings_of(*methods_at_one_budget(seeds=1))
    compared = compare(findings)
    assert compared is not None and "difference" not in method_grid(findings, compared).caption


def test_a_repeated_run_is_listed_and_not_averaged(tmp_path: Path) -> None:
    first = run("qv", 4, 0.8)
    paths = report(tmp_path, first, dataclasses.replace(run("qv", 4, 0.9), run_id="zz"), run("q", 4, 0.7))
    text = paths.report_markdown.read_text()
    assert f"| repeated | completed; {first.run_id} has the same settings and seed" in text
    table = pd.read_csv(paths.report / "table.csv")
    assert table["status"].tolist() == ["completed", "completed", "repeated"]
    assert table["test_accuracy"].tolist()[:2] == [0.8, 0.7] and table["seeds"].tolist()[:2] == [1, 1]
