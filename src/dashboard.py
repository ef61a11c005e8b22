"""Show a study at Weights & Biases: its tables and figures in one run, a workspace of panels, and a report.

    python -m src.dashboard minilm-r52 [--output-dir outputs] [--project lora-sweep] [--entity my-team]

The workspace and the report read the W&B runs of the study's cells, which training has sent; the same command again
replaces all three. Without a key nothing is sent: outputs/<study>/report/wandb/dashboard.json holds what would be.
Needs the extra `dashboard` (wandb-workspaces): python -m pip install -c constraints.txt -e ".[dashboard]".
Exit codes: 0 shown, or written where there is no key; 1 no such study, or W&B refuses.
"""

from __future__ import annotations

import argparse
import csv
import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from src.errors import HarnessError
from src.records import StudyPaths, find_study, read_study
from src.reporting import write_report
from src.reporting.mirror import make_board, summarise
from src.spec import Settings, TrackingSpec
from src.spec.margin import margin
from src.tracking import Published, mirror_study, publish_board, require_dashboard


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code; what went wrong is one paragraph on stderr."""
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    options = _parser().parse_args(arguments)
    spec = TrackingSpec(project=options.project, entity=options.entity)
    try:
        published = show(spec, options.output_dir, options.study, options.within)
    except HarnessError as error:
        if os.environ.get("HYDRA_FULL_ERROR") == "1":
            raise
        print(error, file=sys.stderr)
        return error.exit_code
    print("\n".join(_outcome(published, StudyPaths.of(options.output_dir, options.study))))
    return 0


def show(spec: TrackingSpec, output_dir: Path, name: str, within: float) -> Published:
    """Write the study's report, mirror it, and publish workspace and W&B report.

    Raises:
        HarnessError: wandb-workspaces is missing, there is no such study or nothing in it to show, its report cannot
            be written or read, or W&B does not take what it gets.
    """
    require_dashboard()
    paths = find_study(output_dir, name)
    study = read_study(paths)
    if not study.records:
        raise HarnessError(f"Study {name!r} in {output_dir} has no records so far: there is nothing to show.")
    tables, sentences = write_report(study, paths, within)
    try:
        summary, board = summarise(paths, tables, sentences), make_board(paths, tables, sentences)
    except (OSError, ValueError, csv.Error) as error:
        raise HarnessError(f"Cannot read the report in {paths.report}: {error}.") from error
    mirror_study(spec, summary)
    return publish_board(spec, board)


def _outcome(published: Published, paths: StudyPaths) -> list[str]:
    if published.workspace is None:
        return [
            f"Nothing was sent, for W&B is offline or has no key; what would be sent is in {published.draft}.",
            *_unsent(paths),
            f"  python -m src.dashboard {paths.name} --output-dir {paths.root.parent}",
        ]
    return [f"Workspace: {published.workspace}", f"Report:    {published.report}", f"Sent:      {published.draft}"]


def _unsent(paths: StudyPaths) -> list[str]:
    if any(paths.runs.glob("*/wandb/offline-run-*")):
        return ["After `wandb login`, send the runs and show them:", f"  wandb sync {paths.runs}/*/wandb/offline-run-*"]
    return ["Its runs were not tracked, so panels would be empty; after `wandb login`, this sends tables and figures:"]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m src.dashboard", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("study", help="folder name under the output folder")
    parser.add_argument("--output-dir", type=Path, default=Path("outputs"), help="default: outputs")
    parser.add_argument("--project", default=TrackingSpec.project, help=f"default: {TrackingSpec.project}")
    parser.add_argument("--entity", help="W&B user or team; default: the account's")
    parser.add_argument("--within", type=margin, default=Settings.within, help="margin of 'smallest rank within'")
    return parser


if __name__ == "__main__":
    sys.exit(main())
