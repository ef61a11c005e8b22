"""The report as a document: its sections in the order in which a reader asks."""

from __future__ import annotations

from collections import Counter

from src.comparison.intrinsic import intrinsic_dimensions
from src.comparison.memory import memory_costs
from src.reporting.document import Document, Grid, Section, grid
from src.reporting.material import Figures, Material
from src.reporting.sections.analysis import analysis_section
from src.reporting.sections.answer import answer_section
from src.reporting.sections.beside_paper import paper_section
from src.reporting.sections.costs import cost_section
from src.reporting.sections.intrinsic import intrinsic_section
from src.reporting.sections.methods import method_section
from src.reporting.sections.problems import figure_failures, is_cut, problem_rows, problem_section
from src.reporting.sections.reproduce import reproduce_section
from src.reporting.sections.scores import score_sections

FILES = {
    "table.csv, table.parquet": "every cell with its means over seeds, and every run that is not ranked",
    "findings.csv, findings.parquet": "each configuration at its best learning rate: estimates, intervals, differences",
    "runs.csv, runs.parquet": "every run: settings, status, all scores, time, memory, commit",
    "figures/": "the figures above as SVG and PNG",
}


def compose_page(material: Material, figures: Figures) -> Document:
    """Everything there is to say at this moment, also of a study that has hardly begun."""
    answered = answer_section(material)
    if not material.study.records and not material.tables.skipped:
        return Document(material.tables.study, summary(material), (answered,))
    problems = problem_section(material)
    sections = (
        answered,
        *method_section(material, figures.methods),
        *intrinsic_section(material, figures.intrinsic),
        *score_sections(material, figures.scores),
        *([analysis_section(material, figures.analysis)] if material.findings else []),
        *([cost_section(material, figures.costs)] if material.findings else []),
        Section(problems.title, problems.anchor, (*problems.blocks, *figure_failures(figures.failures))),
        *([paper_section(material)] if material.findings else []),
        reproduce_section(material),
        Section("Files", "files", (_files(material),)),
    )
    return Document(material.tables.study, summary(material), sections)


def summary(material: Material) -> str:
    """What was run and how much of it is there: ``minilm on r52, accuracy. 45 runs: 44 completed, 1 failed.``"""
    counts: Counter[str] = Counter(record.status for record in material.study.records)
    if material.tables.skipped:
        counts["unreadable"] = len(material.tables.skipped)
    if material.tables.unfinished:
        counts["without a record"] = len(material.tables.unfinished)
    total = sum(counts.values())
    parts = ", ".join(f"{number} {status}" for status, number in counts.most_common())
    titles = "; ".join(table.title for table in material.tables.tables)
    runs = f"{total} run{'' if total == 1 else 's'}{f': {parts}' if parts else ''}."
    last = f" Last record {material.written[1]:%Y-%m-%d %H:%M} UTC." if material.written else ""
    return f"{titles}. {runs}{last}" if titles else f"{runs}{last}"


def _files(material: Material) -> Grid:
    rows = list(FILES.items())
    if any(memory_costs(findings.table) for findings in material.findings):
        rows.append(("memory.csv, memory.parquet", "memory and checkpoint of each configuration, part by part"))
    if any(map(intrinsic_dimensions, material.findings)):
        rows.append(("intrinsic_dimension.csv, intrinsic_dimension.parquet", "scores by d, and the d90 that follows"))
    if is_cut(problem_rows(material)):
        rows.append(("not_ranked.csv, not_ranked.parquet", "every run that is not ranked, with its cause"))
    rows += [(f"{name}.csv, {name}.parquet", table.about) for name, table in material.analysis.items()]
    return grid(("file", "what it holds"), rows, text_columns=2)
