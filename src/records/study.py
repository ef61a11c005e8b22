"""The records of a study as they lie on disk, also while a sweep is still running."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from src.errors import HarnessError, brief
from src.records.atomic import write_json_atomic
from src.records.paths import RunPaths, StudyPaths
from src.records.record import RecordError, RunRecord, read_record

FOLDER = "--output-dir <folder>"


@dataclass(frozen=True)
class Skipped:
    """A record that is left out, and why."""

    path: Path
    reason: str


@dataclass(frozen=True)
class Study:
    """Everything that `read_study` found.

    Attributes:
        records: sorted by run_id.
        skipped: files that could not be read as records.
        unfinished: run ids without a record: running now, stopped before the end, or planned by the last command and
            not started.
    """

    name: str
    records: tuple[RunRecord, ...]
    skipped: tuple[Skipped, ...] = ()
    unfinished: tuple[str, ...] = ()


def read_study(paths: StudyPaths) -> Study:
    """All records under ``runs/``; a study without that folder has none.

    Raises:
        HarnessError: the folder cannot be listed.
    """
    records: list[RunRecord] = []
    skipped: list[Skipped] = []
    unfinished: list[str] = []
    for run in _run_folders(paths):
        if not run.record.exists():
            unfinished.append(run.root.name)
            continue
        try:
            records.append(_read_in_place(run))
        except RecordError as error:
            skipped.append(Skipped(error.path, error.reason))
    started = {record.run_id for record in records} | {entry.path.parent.name for entry in skipped}
    waiting = {run_id for run_id in read_plan(paths) if run_id not in started}
    return Study(paths.name, tuple(records), tuple(skipped), tuple(sorted({*unfinished, *waiting})))


def write_plan(run_ids: Sequence[str], paths: StudyPaths) -> None:
    """Keep what a command is about to run.

    Raises:
        WriteError: the system refused to write.
    """
    write_json_atomic(paths.plan, {"runs": list(run_ids)})


def read_plan(paths: StudyPaths) -> tuple[str, ...]:
    """What the last command meant to run; nothing where that is not known."""
    try:
        runs = json.loads(paths.plan.read_bytes())["runs"]
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        return ()
    return tuple(run for run in runs if isinstance(run, str)) if isinstance(runs, list) else ()


def list_studies(output_dir: Path) -> list[str]:
    """Names of the folders in `output_dir` that hold runs."""
    try:
        return sorted(folder.name for folder in output_dir.iterdir() if StudyPaths(folder).runs.is_dir())
    except OSError:
        return []


def find_study(output_dir: Path, name: str, option: str = FOLDER) -> StudyPaths:
    """Where a study that has started lies.

    Args:
        option: how the caller is told another folder.

    Raises:
        HarnessError: there is none of this name; the message lists those there are.
    """
    if name not in list_studies(output_dir):
        if StudyPaths.of(output_dir, name).plan.exists():
            raise HarnessError(f"No run of {name!r} has begun; `python -m src.status {name}` shows what is planned.")
        raise no_study(output_dir, name, option)
    return StudyPaths.of(output_dir, name)


def no_study(output_dir: Path, name: str, option: str = FOLDER) -> HarnessError:
    """An error that says what studies there are."""
    if "=" in name:
        return HarnessError(f"{name!r} is not the name of a study; another output folder takes {option}.")
    known = list_studies(output_dir)
    there = f"there are: {', '.join(known)}" if known else "no other either"
    return HarnessError(f"No study {brief(repr(name))} in {output_dir}; {there}. Another folder takes {option}.")


def _run_folders(paths: StudyPaths) -> list[RunPaths]:
    try:
        folders = [entry for entry in paths.runs.iterdir() if entry.is_dir() and not entry.name.startswith(".")]
    except FileNotFoundError:
        return []
    except OSError as error:
        raise HarnessError(f"Cannot list the runs in {paths.runs}: {error.strerror or error}.") from error
    return [paths.run(name) for name in sorted(folder.name for folder in folders)]


def _read_in_place(run: RunPaths) -> RunRecord:
    """A copied folder would count its seed twice, so the record has to lie under its own run id."""
    record = read_record(run.record)
    if record.run_id != run.root.name:
        raise RecordError(run.record, f"it is the record of {record.run_id}, in a renamed or copied folder")
    return record
