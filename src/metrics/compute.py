"""Scores of predictions: `evaluate` modules that lie beside this file, and the sums of language modelling."""

from __future__ import annotations

import functools
import math
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from src.spec import TaskKind

Scores = dict[str, float | None]
_Module = Literal["classification", "regression", "text"]


def compute_metrics(
    kind: TaskKind, predictions: Sequence[float], references: Sequence[float], num_labels: int | None = None
) -> Scores:
    """All metrics of a kind but the loss; None where one is undefined.

    Args:
        predictions, references: class ids [n] (classification) or numbers [n] (regression): lists, arrays or tensors.
        num_labels: classes of the task; f1 exists for two of them only. None: taken from the largest id.

    Raises:
        ValueError: no examples, lengths that differ, or a kind that is scored by `language_metrics`.
    """
    given, true = _numbers(predictions), _numbers(references)
    if len(given) != len(true) or not true:
        raise ValueError(f"{len(given)} predictions for {len(true)} references")
    match kind:
        case "classification":
            classes = num_labels or int(max(*given, *true)) + 1
            return _modules()["classification"].score(given, true, max(2, classes))
        case "regression":
            return _modules()["regression"].score(given, true)
        case _:
            raise ValueError(f"{kind} is scored from its summed loss: language_metrics")


def language_metrics(loss_sum: float, num_tokens: int, num_correct: int) -> Scores:
    """Metrics of next-token prediction over completion tokens.

    Args:
        loss_sum: summed cross entropy, nats.
        num_tokens: predicted tokens.
        num_correct: of these, how many had the largest logit.

    Returns:
        loss (nats a token), perplexity and token_accuracy; None where undefined or beyond float64.
    """
    if num_tokens == 0:
        return {"loss": None, "perplexity": None, "token_accuracy": None}
    loss = loss_sum / num_tokens
    largest = math.log(2.0) * 1023
    return {
        "loss": loss if math.isfinite(loss) else None,
        "perplexity": math.exp(loss) if loss <= largest else None,
        "token_accuracy": num_correct / num_tokens,
    }


def text_metrics(predictions: Sequence[str], references: Sequence[Sequence[str]]) -> Scores:
    """Overlap of generated texts with their references; src/metrics/text/text.py says what is counted.

    Args:
        predictions: texts [n], stripped as the references are.
        references: one text or more for each prediction, none of them blank.

    Returns:
        bleu and chrf (0 to 100, of the corpus), rouge1, rouge2, rougeL and exact_match (0 to 1); None where undefined.

    Raises:
        ValueError: no texts, lengths that differ, or a text without a reference.
    """
    if len(predictions) != len(references) or not predictions or not all(references):
        raise ValueError(f"{len(predictions)} predictions for {len(references)} lists of references, none may be empty")
    given, true = list(predictions), [list(texts) for texts in references]
    scores: Scores = _modules()["text"].compute(predictions=given, references=true)
    return scores


def _numbers(values: Any) -> list[Any]:
    return values.tolist() if hasattr(values, "tolist") else list(values)


@functools.cache
def _modules() -> Mapping[_Module, Any]:
    """The evaluate modules, loaded once a process.

    Each process has a temporary folder of its own for evaluate's copies of the scripts and keeps predictions in
    memory, so there are no locks and no experiment ids that two processes could share.
    """
    import evaluate  # noqa: PLC0415 - takes seconds, and not every command scores
    import evaluate.config  # noqa: PLC0415

    here, usual = Path(__file__).parent, evaluate.config.HF_MODULES_CACHE
    names: tuple[_Module, ...] = ("classification", "regression", "text")
    with tempfile.TemporaryDirectory(prefix="lora-sweep-metrics-") as folder:
        evaluate.config.HF_MODULES_CACHE = Path(folder)
        try:
            return {name: evaluate.load(str(here / name), cache_dir=folder, keep_in_memory=True) for name in names}
        finally:
            evaluate.config.HF_MODULES_CACHE = usual
            sys.path[:] = [entry for entry in sys.path if entry != folder]
