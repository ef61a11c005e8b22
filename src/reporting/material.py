"""Everything that a report is made of, gathered once."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property

from src.comparison.cells import Cell
from src.comparison.findings import Findings
from src.comparison.method import family_of
from src.comparison.table import StudyTable, Table
from src.records.analysis import AnalysisTable
from src.records.paths import StudyPaths
from src.records.record import RunRecord
from src.records.study import Study
from src.reporting.document import Picture

# As in conf/config.yaml.
DEFAULT_OUTPUT = "outputs"


@dataclass(frozen=True)
class Figures:
    """Drawn figures by their place on the page.

    Attributes:
        scores, costs: for each of the study's tables.
        analysis: of saved adapters.
        methods, intrinsic: for each of the study's tables, mostly empty.
        failures: figures that could not be drawn, with the reason.
    """

    scores: tuple[tuple[Picture, ...], ...]
    costs: tuple[tuple[Picture, ...], ...]
    analysis: tuple[Picture, ...]
    methods: tuple[tuple[Picture, ...], ...]
    intrinsic: tuple[tuple[Picture, ...], ...]
    failures: tuple[str, ...] = ()


@dataclass(frozen=True)
class Material:
    """A study and all that follows from it.

    Attributes:
        findings: one for each of `tables.tables`.
        analysis: tables of src.analyze by name; empty where it was not run.
        analysis_error: why the analysis cannot be read, None where it can.
        no_examples: configurations without per-example results, and so without an interval over test examples.
    """

    study: Study
    tables: StudyTable
    findings: tuple[Findings, ...]
    paths: StudyPaths
    analysis: dict[str, AnalysisTable]
    analysis_error: str | None
    no_examples: int

    @property
    def single(self) -> bool:
        """One table, so its title need not be repeated."""
        return len(self.findings) == 1

    @property
    def output_dir(self) -> str | None:
        """Where the study lies, for commands; None where they look by themselves."""
        folder = str(self.paths.root.parent)
        return None if folder == DEFAULT_OUTPUT else folder

    @cached_property
    def written(self) -> tuple[datetime, datetime] | None:
        """When the first and the last record were written, by the clock of the files; None without records."""
        times = []
        for record in self.study.records:
            try:
                times.append(self.paths.run(record.run_id).record.stat().st_mtime)
            except OSError:
                continue
        return (datetime.fromtimestamp(min(times), UTC), datetime.fromtimestamp(max(times), UTC)) if times else None

    @cached_property
    def run_names(self) -> dict[str, tuple[str, int | None]]:
        """Method and targets, as readers write them, and rank by run id."""
        return {
            record.run_id: (family_of(cell.spec, spelled), cell.rank)
            for table in self.tables.tables
            for cell in cells_of(table)
            for record in (*cell.records, *(repeat for repeat, _ in cell.repeats))
        }


def follow_up(command: str, material: Material) -> str:
    """``python -m src.<command> <study>``, with the study's folder where it is not the usual one."""
    folder = [] if material.output_dir is None else ["--output-dir", material.output_dir]
    return shlex.join(["python", "-m", f"src.{command}", material.tables.study, *folder])


def cells_of(table: Table) -> list[Cell]:
    """Every cell of a table once, ranked ones first."""
    return list(table.cells)


def records_of(table: Table) -> list[RunRecord]:
    """Every run of a table, whatever its status."""
    return [record for cell in cells_of(table) for record in cell.records]


def spelled(targets: str) -> str:
    """``qkvo`` as readers write it: ``q,k,v,o``; words stay words."""
    return targets if targets in ("none", "mlp", "all") else ",".join(targets)
