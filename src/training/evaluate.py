"""Metrics of every participating lane on one split."""

from __future__ import annotations

import dataclasses
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from src.data import Split, TaskData, TokenSplit, evaluation_batches
from src.errors import InterruptedRunError
from src.metrics import text_metrics
from src.models.adapted import AdaptedModel
from src.models.generate import Generation, Prompt, generate, group_prompts
from src.models.score import Result, score
from src.records import finite_scores
from src.spec import TEXT_METRICS
from src.training.lane import Lane

logger = logging.getLogger(__name__)


def evaluate_lanes(model: AdaptedModel, split: Split, data: TaskData, lanes: Sequence[Lane]) -> list[Result]:
    """Evaluate lanes as they are now, without dropout or label smoothing; their time is shared among them."""
    started = time.perf_counter()
    model.retain([lane.index for lane in lanes])
    spec = lanes[0].spec
    results = score(model, split, data, spec.task.kind, evaluation_batches(split, spec.trainer.eval_batch_size))
    share = (time.perf_counter() - started) / len(lanes)
    for lane in lanes:
        lane.eval_seconds += share
    return results


def write_completions(
    model: AdaptedModel,
    data: TaskData,
    lanes: Sequence[Lane],
    results: Sequence[Result],
    *,
    tokenizer: Any,
    stop_requested: Callable[[], bool],
) -> list[Result]:
    """Results on test, with what each lane writes for its prompts and the scores of that.

    Args:
        results: of `evaluate_lanes` on test.
        tokenizer: the model's own.

    Returns:
        `results` with generations and TEXT_METRICS; with these None for a lane whose loss is not finite.

    Raises:
        InterruptedRunError: a stop was requested; nothing was changed.
    """
    assert isinstance(data.test, TokenSplit)
    prompts = group_prompts(data.test, data.test_completions or ())
    logger.info("Writing %d completions of test for %d cells", len(prompts), len(lanes))
    whole = []
    for lane, result in zip(lanes, results, strict=True):
        started = time.perf_counter()
        model.retain([lane.index])
        # What is written by logits that are no numbers means nothing.
        complete = _complete(model, lane, prompts, tokenizer, stop_requested) if result.finite else ()
        whole.append(_with_texts(result, tuple(complete)))
        lane.eval_seconds += time.perf_counter() - started
    return whole


def _complete(
    model: AdaptedModel, lane: Lane, prompts: Sequence[Prompt], tokenizer: Any, stop_requested: Callable[[], bool]
) -> Iterator[Generation]:
    """In the order of `prompts`."""
    written: dict[int, Generation] = {}
    for place, generation in generate(
        model, prompts, lane.spec.task, tokenizer, batch_size=lane.spec.trainer.eval_batch_size
    ):
        written[place] = generation
        if stop_requested():
            raise InterruptedRunError("Stopped as asked; run the same command again: only the test is left to do.")
    return (written[place] for place in range(len(prompts)))


def _with_texts(result: Result, generations: tuple[Generation, ...]) -> Result:
    scores: dict[str, float | None] = dict.fromkeys(TEXT_METRICS)
    if generations:
        scores = text_metrics([g.generated for g in generations], [g.references for g in generations])
    return dataclasses.replace(result, metrics=finite_scores(result.metrics | scores), generations=generations)
