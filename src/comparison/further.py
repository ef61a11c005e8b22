"""Scores on test beside the one that a table is about: BLEU and ROUGE of generated text, F1 beside accuracy."""

from __future__ import annotations

from collections.abc import Sequence

from src.comparison.cells import Cell


def further_metrics(cells: Sequence[Cell]) -> list[str]:
    """Names of all other metrics that some run has a value of, in the order of the records."""
    found: dict[str, None] = {}
    for cell in cells:
        for record in cell.scored:
            for name, value in (record.metrics.test or {}).items():
                if name != cell.spec.task.metric and value is not None:
                    found[name] = None
    return list(found)
