"""The report's tables as CSV and Parquet, with plain numbers: for spreadsheets, notebooks and trackers."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from src.comparison.cells import LATER_DEFAULTS, as_text, fields_of
from src.comparison.findings import Contender, Findings
from src.comparison.intrinsic import SHARE, IntrinsicDimension, Subspace, intrinsic_dimensions
from src.comparison.method import method_of, several_methods
from src.records.atomic import write_bytes_atomic
from src.records.record import RunRecord
from src.reporting.material import Material
from src.reporting.sections.memory import memory_rows
from src.reporting.sections.problems import COLUMNS, is_cut, problem_rows
from src.reporting.tables import guard, table_rows
from src.statistics.interval import Interval

Row = Mapping[str, Any]
# Shown where more than plain LoRA was trained.
METHOD_COLUMNS = ("method", "size")


def write_frames(material: Material) -> None:
    """runs, findings and each analysis table as CSV and Parquet, and table.parquet beside the CSV that is there.

    Raises:
        WriteError: the system refused to write.
    """
    header, rows = table_rows(material.tables)
    _write_parquet(material, "table", typed([dict(zip(header, row, strict=True)) for row in rows], header))
    frames = {"runs": run_frame(material.study.records), "findings": findings_frame(material.findings)}
    memory = memory_frame(material.findings)
    if len(memory):
        frames["memory"] = memory
    dimensions = intrinsic_frame(material.findings)
    if len(dimensions):
        frames["intrinsic_dimension"] = dimensions
    problems = problem_rows(material)
    if is_cut(problems):
        frames["not_ranked"] = typed([dict(zip(COLUMNS, row, strict=True)) for row in problems])
    else:
        for suffix in ("csv", "parquet"):
            (material.paths.report / f"not_ranked.{suffix}").unlink(missing_ok=True)
    for name, table in material.analysis.items():
        frames[name] = typed(table.rows(), list(table.columns))
    for name, frame in frames.items():
        _write_parquet(material, name, frame)
        write_bytes_atomic(material.paths.report / f"{name}.csv", to_csv(frame).encode(errors="replace"))


def run_frame(records: Sequence[RunRecord]) -> pd.DataFrame:
    """A row for each run: every setting, status, scores, counts, time, memory and provenance."""
    rows = [_run_row(record) for record in records]
    if not several_methods([record.run_spec() for record in records]):
        rows = [{key: value for key, value in row.items() if key not in METHOD_COLUMNS} for row in rows]
    new = {
        key for key, default in LATER_DEFAULTS.items() if all(row.get(key) in (None, as_text(default)) for row in rows)
    }
    return typed([{key: value for key, value in row.items() if key not in new} for row in rows])


def findings_frame(findings: Sequence[Findings]) -> pd.DataFrame:
    """A row for each configuration at its chosen learning rate, and for the head alone."""
    rows = []
    for each in findings:
        contenders = [*each.contenders, *([each.baseline] if each.baseline else [])]
        rows += [_contender_row(each, contender) for contender in contenders]
    if not any(each.table.several_methods for each in findings):
        rows = [{key: value for key, value in row.items() if key not in METHOD_COLUMNS} for row in rows]
    return typed(rows)


def memory_frame(findings: Sequence[Findings]) -> pd.DataFrame:
    """A row for each configuration: its memory and checkpoint part by part; empty where nothing was measured."""
    return typed([row for each in findings for row in memory_rows(each.table)])


def intrinsic_frame(findings: Sequence[Findings]) -> pd.DataFrame:
    """A row for each d of each projection: its score, what it is held against, and d90; empty without subspaces."""
    return typed(
        [
            _subspace_row(each, found, subspace)
            for each in findings
            for found in intrinsic_dimensions(each)
            for subspace in found.subspaces
        ]
    )


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
        "method": method_of(spec),
        "rank": params.rank,
        "size": params.size,
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
        "method": cell.method,
        "targets": cell.spec.lora.targets if cell.has_lora or not cell.adapted else None,
        "rank": cell.rank,
        "size": cell.method_size,
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
        "smallest_sufficient": findings.sufficient.get(cell.family) is contender,
    }


def _subspace_row(findings: Findings, found: IntrinsicDimension, subspace: Subspace) -> Row:
    cell, table = subspace.contender.choice.cell, findings.table
    return {
        "model": table.model,
        "task": table.task,
        "metric": table.metric,
        "split": found.split,
        "method": found.method,
        "d": subspace.d,
        "lr": cell.spec.optim.lr,
        "seeds": len(cell.scored),
        "score": subspace.score,
        "full_fine_tuning": found.full_score,
        "head_only": found.head_score,
        "share": SHARE,
        "threshold": found.threshold,
        "reaches": subspace.reaches,
        "d90": found.d90,
        "gain_threshold": found.gain_threshold,
        "d90_of_gain": found.d90_of_gain,
    }


def _ends(name: str, interval: Interval | None) -> Row:
    return {f"{name}_low": interval.low if interval else None, f"{name}_high": interval.high if interval else None}
