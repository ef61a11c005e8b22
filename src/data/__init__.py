"""From a TaskSpec to tokenised (or resized), seeded, disjoint splits and their batches."""

from src.data.batches import IGNORED, Batch, collate, epoch_batches, evaluation_batches
from src.data.pixels import PictureProcessor, PictureSplit, Split
from src.data.task import TaskData, load_task
from src.data.task_cache import cached_task, digest_of_files, read_task, write_task
from src.data.tokens import TokenSplit

__all__ = [
    "IGNORED",
    "Batch",
    "PictureProcessor",
    "PictureSplit",
    "Split",
    "TaskData",
    "TokenSplit",
    "cached_task",
    "collate",
    "digest_of_files",
    "epoch_batches",
    "evaluation_batches",
    "load_task",
    "read_task",
    "write_task",
]
