"""Everything in a study's report folder, written atomically from the records."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from src.comparison.find import find_all
from src.comparison.findings import Findings
from src.comparison.table import StudyTable, build_tables
from src.errors import HarnessError
from src.records.analysis import AnalysisTable, read_analysis
from src.records.atomic import write_bytes_atomic
from src.records.examples import ExampleFiles
from src.records.paths import StudyPaths
from src.records.study import Study
from src.reporting.answer import answer
from src.reporting.markdown import document_markdown
from src.reporting.material import Figures, Material
from src.reporting.tables import to_csv, to_markdown

logger = logging.getLogger(__name__)


def write_report(study: Study, paths: StudyPaths, within: float) -> tuple[StudyTable, list[str]]:
    """Build tables and answer, write the report folder, and return what a terminal shows.

    The tables come first: whatever is wrong with figures or the page, they are there.

    Raises:
        WriteError: the system refused to write.
    """
    tables = build_tables(study)
    examples = ExampleFiles(paths)
    findings = find_all(tables.tables, examples, margin=within)
    sentences = answer(findings, tables)
    _write(paths.table_markdown, to_markdown(tables, sentences))
    _write(paths.table_csv, to_csv(tables))
    try:
        material = gather(study, tables, findings, paths, len(examples.skipped))
        _write_rest(material)
    except HarnessError:
        raise
    except Exception:
        for outdated in (paths.page, paths.report_markdown):
            outdated.unlink(missing_ok=True)
        # A sweep of hours must end with its table and its exit code, also where drawing a page of it fails.
        logger.exception("The page of %s could not be written; its tables are in %s", paths.name, paths.report)
    return tables, sentences


def gather(
    study: Study, tables: StudyTable, findings: Sequence[Findings], paths: StudyPaths, no_examples: int
) -> Material:
    """What the page is made of; an analysis that cannot be read becomes a sentence on it."""
    analysis: dict[str, AnalysisTable] = {}
    error = None
    try:
        analysis = read_analysis(paths.analysis)
    except HarnessError as unreadable:
        error = str(unreadable)
    return Material(study, tables, tuple(findings), paths, analysis, error, no_examples)


def _write_rest(material: Material) -> None:
    # Pandas, pyarrow and matplotlib take seconds to load, and a wrong command should be told at once.
    from src.reporting.frames import write_frames  # noqa: PLC0415
    from src.reporting.html import to_html  # noqa: PLC0415
    from src.reporting.page import compose_page  # noqa: PLC0415

    write_frames(material)
    document = compose_page(material, _figures(material))
    _write(material.paths.report_markdown, document_markdown(document))
    _write(material.paths.page, to_html(document))


def _figures(material: Material) -> Figures:
    """The figures, or why there are none."""
    try:
        from src.reporting.figures import draw_figures  # noqa: PLC0415

        return draw_figures(material)
    except ImportError as error:
        logger.warning("No figures: %s", error)
        empty = ((),) * len(material.findings)
        return Figures(empty, empty, (), empty, empty, (f"all of them: {error}",))


def _write(path: Path, text: str) -> None:
    write_bytes_atomic(path, text.encode(errors="replace"))
