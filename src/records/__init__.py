"""Run records, the files of a study, and the tables made of them. Reads and writes files; trains nothing."""

from src.records.answer import answer
from src.records.atomic import atomic_path, write_bytes_atomic, write_json_atomic
from src.records.atomic_folder import atomic_folder
from src.records.files import write_report
from src.records.paths import RunPaths, StudyPaths
from src.records.record import (
    Budget,
    Failure,
    HistoryPoint,
    Metrics,
    Params,
    RecordError,
    RunRecord,
    Scores,
    Status,
    finite,
    finite_scores,
    read_record,
    write_record,
)
from src.records.study import Skipped, Study, list_studies, read_study
from src.records.table import StudyTable, Table, build_tables

__all__ = [
    "Budget",
    "Failure",
    "HistoryPoint",
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
    "StudyTable",
    "Table",
    "answer",
    "atomic_folder",
    "atomic_path",
    "build_tables",
    "finite",
    "finite_scores",
    "list_studies",
    "read_record",
    "read_study",
    "write_bytes_atomic",
    "write_json_atomic",
    "write_record",
    "write_report",
]
