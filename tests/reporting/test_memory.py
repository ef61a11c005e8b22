"""LoRA against full fine-tuning: ratios by hand, missing where there is nothing to compare with, the paper's marked."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from src.comparison.memory import memory_costs, smallest_and_largest
from src.records import COUNTED, RunRecord, read_study
from src.records.text import MISSING
from src.reporting import write_report
from src.reporting.document import Grid, Paragraph
from src.reporting.sections.memory import memory_blocks
from src.spec import MethodSpec, RunSpec, normalise
from tests.plots.studies import findings_of
from tests.record_factory import make_record, make_spec, one_table, save

FULL = (0, 400, 400, 800, 400)
LORA = (400, 4, 4, 8, 84)


def method(name: Any, size: int | None = None, **changes: Any) -> RunSpec:
    return normalise(dataclasses.replace(make_spec(**changes), method=MethodSpec(name, size)))


def measured(spec: RunSpec, parts: tuple[int | None, ...], saved: int | None, peak: int | None = 5000) -> RunRecord:
    memory = {**dict(zip(COUNTED, parts, strict=True)), "peak_bytes": peak, "checkpoint_bytes": saved}
    return make_record(spec, memory=memory)


def study(*, full: bool = True) -> list[RunRecord]:
    records = [measured(make_spec("qv", 1, seed=seed), LORA, 50 + 10 * seed) for seed in range(3)]
    return [*records, *([measured(method("full"), FULL, 6000)] if full else [])]


def blocks(*records: RunRecord) -> tuple[list[str], Grid]:
    *paragraphs, table = memory_blocks(findings_of(*records))
    assert isinstance(table, Grid)
    return [block.text for block in paragraphs if isinstance(block, Paragraph)], table


def column(table: Grid, title: str, which: int = 0) -> list[str]:
    place = [place for place, name in enumerate(table.columns) if name == title][which]
    return [row[place] for row in table.rows]


def test_ratios_are_to_full_fine_tuning_and_the_papers_are_marked() -> None:
    sentences, table = blocks(*study())
    assert column(table, "method") == [
        "LoRA", "full fine-tuning", "paper: full fine-tuning", "paper: LoRA",
    ]  # fmt: skip
    assert column(table, "matrices and size") == ["q,v r=1", MISSING, "GPT-3 175B", "GPT-3 175B q,v r=4"]
    assert column(table, "weights") == ["404 B", "400 B", MISSING, MISSING]
    assert column(table, "training memory") == ["500 B", "2 kB", "1.2 TB", "350 GB"]
    assert column(table, "of full") == ["25 %", "100 %", "100 %", "29.2 %"]
    assert column(table, "checkpoint") == ["60 B", "6 kB", "350 GB", "35 MB"]
    assert column(table, "of full", 1) == ["1 %", "100 %", "100 %", "0.01 %"]
    assert sentences == [
        "minilm on r52, accuracy: LoRA trains with 25 % of the memory that full fine-tuning needs, and saves 1 % of "
        "its checkpoint (the paper, on GPT-3: 29.2 % and 0.01 %)."
    ]


def test_without_full_fine_tuning_the_sum_is_there_and_no_ratio() -> None:
    sentences, table = blocks(*study(full=False))
    assert sentences == []
    assert column(table, "training memory")[0] == "500 B"
    assert column(table, "of full")[0] == column(table, "of full", 1)[0] == MISSING
    assert "No run trains the whole model (method=full): no ratio." in table.caption


def test_older_records_have_no_such_table_and_do_not_stand_in_the_way(tmp_path: Path) -> None:
    old = [make_record(make_spec("qv", 8), memory={"peak_bytes": 10**9}), make_record(make_spec("q", 8))]
    assert memory_blocks(findings_of(*old)) == []
    (cost,) = memory_costs(one_table(*old, *study(full=False)))
    assert (cost.runs, cost.cell.rank) == (3, 1)
    paths = save(tmp_path, "old", *old)
    write_report(read_study(paths), paths, within=0.01)
    assert "Time and memory" in paths.page.read_text() and "1\xa0GB" in paths.page.read_text()
    assert not (paths.report / "memory.csv").exists()


def test_a_part_that_was_not_measured_leaves_the_sum_and_its_ratio_missing() -> None:
    full, lora = measured(method("full"), FULL, 6000), measured(make_spec("qv", 1), (400, 4, 4, None, 84), None)
    cost, reference = memory_costs(one_table(full, lora))
    assert (cost.total, cost.memory_of_full, cost.checkpoint_of_full) == (None, None, None)
    assert (reference.total, reference.memory_of_full) == (2000, 1.0)


def test_batches_of_another_shape_are_not_compared() -> None:
    small = measured(make_spec("qv", 1, trainer__batch_size=4), LORA, 50)
    costs = memory_costs(one_table(*study(), small))
    ratios = {(cost.cell.method, cost.setting["trainer.batch_size"]): cost.memory_of_full for cost in costs}
    assert ratios == {("LoRA", 16): 0.25, ("LoRA", 4): None, ("full fine-tuning", 16): 1.0}
    _, table = blocks(*study(), small)
    assert column(table, "batch")[:3] == ["batch_size 16", "batch_size 16", "batch_size 4"]


def test_the_grid_has_the_ends_of_each_method_and_the_frame_has_all(tmp_path: Path) -> None:
    ranks = [measured(make_spec("qv", rank, optim__lr=lr), (400, rank, rank, 2 * rank, 84), 50 * rank)
             for rank in (1, 2, 4, 8) for lr in (0.001, 0.003)]  # fmt: skip
    records = [*ranks, measured(method("full"), FULL, 6000), measured(method("adapter_h", 4), LORA, 70)]
    ends = smallest_and_largest(memory_costs(one_table(*records)))
    assert [cost.cell.name for cost in ends if cost.cell.method == "LoRA"] == ["qv r=1", "qv r=8"]
    assert [cost.cell.method for cost in ends].count("Adapter^H") == 1
    sentences, _ = blocks(*records)
    assert "LoRA trains with 24.4 % to 25.8 % of the memory" in sentences[0]
    paths = save(tmp_path, "study", *records)
    write_report(read_study(paths), paths, within=0.01)
    frame = pd.read_csv(paths.report / "memory.csv")
    assert list(pd.read_parquet(paths.report / "memory.parquet")["training_bytes"]) == list(frame["training_bytes"])
    lora = frame[frame.method == "LoRA"].sort_values("rank")
    assert lora["runs"].tolist() == [2] * 4
    assert lora["training_bytes"].tolist() == [488, 492, 500, 516]
    assert lora["training_bytes_of_full"].tolist() == pytest.approx([0.244, 0.246, 0.25, 0.258])
    for written in (paths.page, paths.report_markdown):
        assert "GPT-3 175B q,v r=4" in written.read_text() and "memory.csv, memory.parquet" in written.read_text()


def test_foreign_text_in_the_table_is_escaped(tmp_path: Path) -> None:
    records = [
        dataclasses.replace(measured(make_spec("qv", 1), LORA, 50), env={"dtype": "<script>alert(1)</script>"}),
        dataclasses.replace(measured(make_spec("qv", 2), LORA, 50), env={"dtype": "float32"}),
    ]
    paths = save(tmp_path, "study", *records)
    write_report(read_study(paths), paths, within=0.01)
    assert "<script" not in paths.page.read_text()
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in paths.page.read_text()
