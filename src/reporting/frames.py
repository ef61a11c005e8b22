"""The report's tables as CSV and Parquet, with plain numbers: for spreadsheets, notebooks and trackers."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from src.comparison.cells import fields_of
from src.comparison.findings import Contender, Findings
from src.records.atomic import write_bytes_atomic
from src.records.record import RunRecord
from src.reporting.material import Material
from src.reporting.tables import guard, table_rows
from src.statistics.interval import Interval

Row = Mapping[str, Any]


def write_frames(material: Material) -> None:
    """runs, findings and each analysis table as CSV and Parquet, and table.parquet beside the CSV that is there.

    Raises:
        WriteError: the system refused to write.
    """
    header, rows = table_rows(material.tables)
    _write_parquet(material, "table", typed([dict(zip(header, row, strict=True)) for row in rows], header))
    frames = {"runs": run_frame(material.study.records), "findings": findings_frame(material.findings)}
    for name, table in material.analysis.items():
        frames[name] = typed(table.rows(), list(table.columns))
    for name, frame in frames.items():
        _write_parquet(material, name, frame)
        write_bytes_atomic(material.paths.report / f"{name}.csv", to_csv(frame).encode(errors="replace"))


def run_frame(records: Sequence[RunRecord]) -> pd.DataFrame:
    """A row for each run: every setting, status, scores, counts, time, memory and provenance."""
    return typed([_run_row(record) for record in records])


def findings_frame(findings: Sequence[Findings]) -> pd.DataFrame:
    """A row for each configuration at its chosen learning rate, and for the head alone."""
    rows = []
    for each in findings:
        contenders = [*each.contenders, *([each.baseline] if each.baseline else [])]
        rows += [_contender_row(each, contender) for contender in contenders]
    return typed(rows)


def typed(rows: Sequence[Row], columns: Sequence[str] | None = None) -> pd.DataFrame:
    """Columns of one type each, with pandas' own missing value: whole numbers stay whole where some are missing."""
    names = list(columns) if columns is not None else list(dict.fromkeys(name for row in rows for name in row))
    return pd.DataFrame({name: _series([row.get(name) for row in rows]) for name in names})


def to_csv(frame: pd.DataFrame) -> str:
    """Empty where missing; no text starts a formula, headers included."""
    safe = frame.copy()
    for name in safe.columns:
        if safe[name].dtype == "string":
            safe[name] = safe[name].map(guard, na_action="ignore")
    return str(safe.rename(columns=guard).to_csv(index=False, lineterminator="\n"))


def _series(values: Sequence[Any]) -> pd.Series[Any]:
    types = {type(value) for value in values if value is not None}
    if types == {int}:
        return pd.Series(values, dtype="Int64")
    if types == {bool}:
        return pd.Series(values, dtype="boolean")
    if types and types <= {int, float}:
        return pd.Series(values, dtype="Float64")
    return pd.Series([None if value is None else str(value) for value in values], dtype="string")


def _write_parquet(material: Material, name: str, frame: pd.DataFrame) -> None:
    out = io.BytesIO()
    frame.to_parquet(out, engine="pyarrow", index=False)
    write_bytes_atomic(material.paths.report / f"{name}.parquet", out.getvalue())


def _run_row(record: RunRecord) -> Row:
    spec, params = record.run_spec(), record.params
    git = record.env.get("git") or {}
    return {
        "run_id": record.run_id,
        "status": record.status,
        "cause": None if record.error is None else f"{record.error.type}: {record.error.message}",
        **fields_of(spec),
        "lora.targets": spec.lora.targets,
        "rank": params.rank,
        "adapter_parameters": params.adapter,
        "head_parameters": params.head,
        "base_parameters": params.base,
        **{f"validation_{name}": value for name, value in (record.metrics.validation or {}).items()},
        **{f"test_{name}": value for name, value in (record.metrics.test or {}).items()},
        "best_epoch": record.best_epoch,
        **record.time,
        **record.memory,
        "device": record.env.get("device_name"),
        "dtype": record.env.get("dtype"),
        "commit": git.get("commit"),
        "dirty": git.get("dirty"),
        "data_sha256": record.data.get("sha256"),
    }


def _contender_row(findings: Findings, contender: Contender) -> Row:
    cell, table, difference = contender.choice.cell, findings.table, contender.difference
    test = contender.test
    return {
        "model": table.model,
        "task": table.task,
        "metric": table.metric,
        "configuration": contender.label,
        "targets": cell.spec.lora.targets,
        "rank": cell.rank,
        "place": contender.place,
        "lr": cell.spec.optim.lr if cell.adapted else None,
        "lr_at_edge": contender.choice.at_edge if cell.adapted else None,
        "adapter_parameters": cell.adapter_parameters,
        "seeds": len(cell.scored),
        "validation": contender.validation.mean,
        "test": test.mean if test else None,
        **_ends("test_over_seeds", test.over_seeds if test else None),
        **_ends("test_over_examples", test.over_examples if test else None),
        "difference": difference.mean if difference else None,
        **_ends("difference", difference.interval if difference else None),
        "pairs": difference.pairs if difference else None,
        "p": difference.p if difference else None,
        "p_holm": difference.p_holm if difference else None,
        "p_inferior_holm": difference.p_inferior_holm if difference else None,
        "margin": findings.margin,
        "smallest_sufficient": findings.sufficient.get(cell.spec.lora.targets) is contender,
    }


def _ends(name: str, interval: Interval | None) -> Row:
    return {f"{name}_low": interval.low if interval else None, f"{name}_high": interval.high if interval else None}
