"""Records to tables: one for each model, data set and metric, sorted by validation score, best first."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from src.comparison.cells import Cell, group_cells, varying_fields
from src.comparison.labels import cell_label, configuration_label, last_part
from src.comparison.method import TOLD_BY_NAME, several_methods
from src.records.record import RunRecord
from src.records.study import Skipped, Study
from src.records.text import Kind, Value, one_line, show
from src.spec import LOWER_IS_BETTER, source_name

COLUMNS_ALWAYS_SHOWN = ("seed", "lora.targets", "lora.rank", "lora.alpha", "optim.lr")
# What columns of their own show where it occurs.
SIZES = ("lora.ranks", "method.size")
# Of the task and the base model, what may differ within a table: the validation examples stay the same.
FREE_FIELDS = ("model.pooling", "task.max_length")


@dataclass(frozen=True)
class Column:
    """One column: header in the CSV, header for readers, how its values are shown, and where they come from."""

    key: str
    title: str
    kind: Kind
    value: Callable[[Cell], Value]


@dataclass(frozen=True)
class Problem:
    """A run that is listed with its cause and never ranked."""

    run_id: str
    label: str
    status: str
    cause: str
    cell: Cell


@dataclass(frozen=True)
class Table:
    """Cells that can be compared.

    Attributes:
        model, task: short names.
        metric: of validation and test.
        note: what sets this table apart from another of the same model, task and metric; mostly empty.
        columns: of the table of ranked cells.
        ranked: cells with a validation score, best first.
        problems: runs without one, and further runs of a seed that has one, by run id.
        varying: dotted names of the fields that differ between cells and that neither a column of its own nor the
            name of the method tells.
    """

    model: str
    task: str
    metric: str
    note: str
    columns: tuple[Column, ...]
    ranked: tuple[Cell, ...]
    problems: tuple[Problem, ...]
    varying: tuple[str, ...]

    @property
    def title(self) -> str:
        return f"{self.model} on {self.task}, {self.metric}{f' ({self.note})' if self.note else ''}"

    @property
    def lower_is_better(self) -> bool:
        return self.metric in LOWER_IS_BETTER

    @cached_property
    def cells(self) -> tuple[Cell, ...]:
        """Every cell once, ranked ones first."""
        found = {id(cell): cell for cell in (*self.ranked, *(problem.cell for problem in self.problems))}
        return tuple(found.values())

    @cached_property
    def several_methods(self) -> bool:
        """Whether there is more to tell apart than plain LoRA and the head alone."""
        return several_methods([cell.spec for cell in self.cells])

    def label(self, cell: Cell) -> str:
        """``qkvo r=64 (alpha 16, lr 0.003)``, and whatever else varies between the cells."""
        return cell_label(cell, self.varying, self.several_methods)

    def configuration_label(self, cell: Cell) -> str:
        """``qkvo r=64``, and whatever varies between configurations: what is tuned within one is left out."""
        return configuration_label(cell, self.varying, self.several_methods)

    def name(self, cell: Cell) -> str:
        """With the method also where it is plain LoRA or none, where there are others."""
        return cell.full_name if self.several_methods else cell.name

    def row(self, cell: Cell) -> list[str]:
        """The cell's values as text, in the order of `columns`."""
        return [show(column.value(cell), column.kind) for column in self.columns]


@dataclass(frozen=True)
class StudyTable:
    """All tables of a study, and what could not be read or has not ended."""

    study: str
    tables: tuple[Table, ...]
    skipped: tuple[Skipped, ...]
    unfinished: tuple[str, ...]


def build_tables(study: Study) -> StudyTable:
    """Group, average over seeds and sort."""
    groups: dict[tuple[Any, ...], list[Cell]] = defaultdict(list)
    for cell in group_cells(study.records):
        groups[tuple(_setting(cell).values())].append(cell)
    members = sorted(groups.values(), key=lambda cells: _names(cells[0]))
    tables = tuple(_build_table(cells, _note(cells, members)) for cells in members)
    return StudyTable(study.name, tables, study.skipped, study.unfinished)


def _setting(cell: Cell) -> dict[str, Value]:
    """What has to be equal for two scores to be comparable: base model, data and metric."""
    return {
        key: value
        for key, value in cell.fields.items()
        if key.startswith(("model.", "task.")) and key not in FREE_FIELDS
    }


def _names(cell: Cell) -> tuple[str, str, str]:
    task = cell.spec.task
    return source_name(cell.spec.model.path), task.subset or source_name(task.path), task.metric


def _note(cells: Sequence[Cell], groups: Sequence[Sequence[Cell]]) -> str:
    """What differs from the tables that would otherwise have the same title."""
    own = _setting(cells[0])
    alike = [_setting(group[0]) for group in groups if _names(group[0]) == _names(cells[0])]
    apart = [key for key, value in own.items() if any(setting[key] != value for setting in alike)]
    return ", ".join(f"{last_part(key)} {show(own[key], 'number')}" for key in apart)


def _build_table(cells: Sequence[Cell], note: str) -> Table:
    model, task, metric = _names(cells[0])
    varying = _varying(cells)
    ranked = sorted((cell for cell in cells if cell.scored), key=ranking)
    several = several_methods([cell.spec for cell in cells])
    problems = [
        Problem(record.run_id, f"{cell_label(cell, varying, several)}, seed {record.run_spec().seed}", *why, cell)
        for cell in cells
        for record, why in _unranked(cell)
    ]
    problems.sort(key=lambda problem: problem.run_id)
    return Table(model, task, metric, note, _columns(metric, varying, cells), tuple(ranked), tuple(problems), varying)


def _varying(cells: Sequence[Cell]) -> tuple[str, ...]:
    """Fields that a reader would not learn from columns or from the method's name."""
    methods: dict[str, list[Cell]] = defaultdict(list)
    for cell in cells:
        methods[cell.method].append(cell)
    within = {key for members in methods.values() for key in varying_fields(members)}
    told = {*COLUMNS_ALWAYS_SHOWN, *SIZES, *(key for key in TOLD_BY_NAME if key not in within)}
    return tuple(key for key in varying_fields(cells) if key not in told)


def ranking(cell: Cell) -> tuple[Any, ...]:
    """Sort key of cells with a validation score: the best first; among equals the smaller cell."""
    score = cell.validation
    assert score is not None
    better_first = score if cell.spec.task.metric in LOWER_IS_BETTER else -score
    return better_first, *reversed(cell.size), cell.spec.lora.targets, cell.records[0].run_id


def _columns(metric: str, varying: Sequence[str], cells: Sequence[Cell]) -> tuple[Column, ...]:
    extra = [Column(last_part(key), last_part(key), "number", _field(key)) for key in varying]
    method, size = _method_columns(cells)
    return (
        *method,
        Column("targets", "targets", "text", lambda cell: cell.spec.lora.targets if _has_targets(cell) else None),
        Column("rank", "rank", "count", lambda cell: cell.rank),
        *size,
        Column("alpha", "alpha", "number", _field("lora.alpha")),
        Column("lr", "lr", "number", _field("optim.lr")),
        *extra,
        Column("seeds", "seeds", "number", lambda cell: cell.seeds),
        Column(
            "adapter_parameters",
            "trained parameters" if method else "adapter parameters",
            "count",
            lambda cell: cell.adapter_parameters,
        ),
        Column(f"validation_{metric}", "validation", "score", lambda cell: cell.validation),
        Column(f"test_{metric}", "test", "score", lambda cell: cell.test),
        Column("time_s", "time", "seconds", lambda cell: cell.total_s),
    )


def _method_columns(cells: Sequence[Cell]) -> tuple[list[Column], list[Column]]:
    """Columns before the targets and after the rank, where a study has use for them."""
    method = [Column("method", "method", "text", lambda cell: cell.method)]
    ranks = Column("ranks", "ranks", "number", lambda cell: cell.ranks)
    size = Column("size", "size", "count", lambda cell: cell.method_size)
    return (
        method if several_methods([cell.spec for cell in cells]) else [],
        [
            *([ranks] if any(cell.ranks for cell in cells) else []),
            *([size] if any("method.size" in cell.fields for cell in cells) else []),
        ],
    )


def _has_targets(cell: Cell) -> bool:
    """Whether ``none`` is not just how a method without LoRA is written down."""
    return cell.has_lora or not cell.adapted


def _field(key: str) -> Callable[[Cell], Value]:
    return lambda cell: cell.fields.get(key)


def _unranked(cell: Cell) -> list[tuple[RunRecord, tuple[str, str]]]:
    """Runs that take no part in the cell's means, with status and cause."""
    lost = [(record, _cause(record)) for record in cell.records if not cell.counts(record)]
    again = [
        (record, ("repeated", f"{record.status}; {kept.run_id} has the same settings and seed and stands for both"))
        for record, kept in cell.repeats
    ]
    return [*lost, *again]


def _cause(record: RunRecord) -> tuple[str, str]:
    """Status and one line on why."""
    if record.error is not None:
        kind = f"{record.error.type}: " if record.status == "failed" else ""
        return record.status, one_line(kind + record.error.message)
    match record.status:
        case "completed":
            return "completed", "no validation score"
        case "eliminated":
            return "eliminated", str(record.eliminated)
        case "interrupted":
            return "interrupted", "stopped before its end; the same command continues it"
        case _:
            return record.status, "no cause was recorded"
