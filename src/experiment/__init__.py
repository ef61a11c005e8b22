"""Running studies: from validated specs to records on disk and a table on the screen."""

from src.experiment.study import StudyOutcome, run_study

__all__ = ["StudyOutcome", "run_study"]
