"""Run records and the files of a study. Reads and writes files; trains and compares nothing."""

from src.records.analysis import AnalysisTable, read_analysis, write_analysis
from src.records.atomic import atomic_path, write_bytes_atomic, write_json_atomic
from src.records.atomic_folder import atomic_folder, remove_folder, remove_leftovers
from src.records.claims import LAUNCHER, Claims, Holder
from src.records.metrics_log import append_row, keep_rows, read_rows
from src.records.paths import RunPaths, StudyPaths
from src.records.record import (
    COUNTED,
    MEMORY,
    Budget,
    Elimination,
    Failure,
    HistoryPoint,
    Metrics,
    Params,
    RecordError,
    RunRecord,
    Scores,
    Status,
    find_record,
    finite,
    finite_scores,
    read_record,
    write_record,
)
from src.records.study import Skipped, Study, find_study, list_studies, no_study, read_plan, read_study, write_plan

__all__ = [
    "COUNTED",
    "LAUNCHER",
    "MEMORY",
    "AnalysisTable",
    "Budget",
    "Claims",
    "Elimination",
    "Failure",
    "HistoryPoint",
    "Holder",
    "Metrics",
    "Params",
    "RecordError",
    "RunPaths",
    "RunRecord",
    "Scores",
    "Skipped",
    "Status",
    "Study",
    "StudyPaths",
    "append_row",
    "atomic_folder",
    "atomic_path",
    "find_record",
    "find_study",
    "finite",
    "finite_scores",
    "keep_rows",
    "list_studies",
    "no_study",
    "read_analysis",
    "read_plan",
    "read_record",
    "read_rows",
    "read_study",
    "remove_folder",
    "remove_leftovers",
    "write_analysis",
    "write_bytes_atomic",
    "write_json_atomic",
    "write_plan",
    "write_record",
]
