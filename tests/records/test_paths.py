from __future__ import annotations

from pathlib import Path

from src.records import StudyPaths


def test_layout_of_a_study() -> None:
    paths = StudyPaths.of("outputs", "minilm-r52")
    run = paths.run("qv-r4")
    root = Path("outputs/minilm-r52")
    assert paths.name == "minilm-r52"
    assert [paths.log, paths.table_markdown, paths.table_csv] == [
        root / "study.log",
        root / "report/table.md",
        root / "report/table.csv",
    ]
    assert [run.record, run.adapter_config, run.adapter_weights, run.head, run.predictions, run.tracking] == [
        root / "runs/qv-r4" / name
        for name in (
            "record.json",
            "adapter/adapter_config.json",
            "adapter/adapter_model.safetensors",
            "head.safetensors",
            "predictions.safetensors",
            "tracking.json",
        )
    ]
    assert run.checkpoints == root / "runs/qv-r4/checkpoints"
