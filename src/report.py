"""Rewrite the reports of studies from the records on disk, also while a sweep is running.

    python -m src.report minilm-r52 [<study> ...] [--output-dir outputs] [--within 0.01]

Writes each study's report folder (index.html, report.md, tables, figures) and prints what a sweep prints at its end.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from src.errors import HarnessError, do_each
from src.experiment.display.console import print_table
from src.records import find_study, read_study
from src.reporting import write_report
from src.spec import Settings
from src.spec.margin import margin


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code: 0, or 1 where a study could not be reported; the others are reported all the same."""
    options = _parser().parse_args(arguments)
    return do_each(options.studies, lambda study: report(options.output_dir, study, options.within))


def report(output_dir: Path, name: str, within: float) -> None:
    """Raises:
    HarnessError: no such study, nothing recorded in it, or its report cannot be written.
    """
    paths = find_study(output_dir, name)
    study = read_study(paths)
    if not study.records and not study.skipped:
        started = len(study.unfinished)
        runs = "1 run has" if started == 1 else f"{started} runs have"
        raise HarnessError(f"Study {name!r} in {output_dir} has no records so far; {runs} started.")
    tables, sentences = write_report(study, paths, within)
    print_table(tables, sentences, paths)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m src.report", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("studies", nargs="+", metavar="study", help="folder name under the output folder")
    parser.add_argument("--output-dir", type=Path, default=Path("outputs"), help="default: outputs")
    parser.add_argument("--within", type=margin, default=Settings.within, help="margin of 'smallest rank within', 0.01")
    return parser


if __name__ == "__main__":
    sys.exit(main())
