"""What a dashboard shows of a study, as plain data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Board:
    """A study, as its W&B workspace and report present it.

    Attributes:
        folder: the study's folder; the ids of what was sent are kept there, so that it is replaced next time.
        draft: the file that gets what is sent, or would be sent.
        metrics: of validation and test, one for each kind of task in the study.
        sentences: the answer.
        table: the ranked cells in Markdown.
        figures: names of the figures that the study's summarising run shows.
        methods: whether more than plain LoRA was trained, so that panels by method say something.
    """

    study: str
    folder: Path
    draft: Path
    metrics: Sequence[str]
    sentences: Sequence[str] = ()
    table: str = ""
    figures: Sequence[str] = ()
    methods: bool = False


@dataclass(frozen=True)
class Published:
    """Where a dashboard is to be seen.

    Attributes:
        draft: the file with what was sent, or would be sent.
        workspace, report: addresses; None where there is no key, so that nothing was sent.
    """

    draft: Path
    workspace: str | None = None
    report: str | None = None
