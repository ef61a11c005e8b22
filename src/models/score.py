"""What lanes say of a split, and how good it is."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from src.data import Batch, Split, TaskData, collate
from src.metrics import compute_metrics, language_metrics
from src.models.adapted import AdaptedModel
from src.models.generate import Generation
from src.models.losses import loss_sum, predicted
from src.models.outputs import LaneOutput
from src.records import finite_scores
from src.spec import TEXT_KINDS, TaskKind


@dataclass(frozen=True)
class Result:
    """One lane on one split.

    Attributes:
        metrics: by name, None where undefined.
        examples: what was said of each example [n], in the split's order: prediction and target (class or number), or
            for causal_lm and seq2seq the loss in nats, summed over its tokens, and the number of tokens.
        finite: whether the loss is a number; what is scored on NaN logits means nothing.
        generations: what was written for each prompt, on test with task.generate; else none.
    """

    metrics: dict[str, float | None]
    examples: dict[str, Tensor]
    finite: bool
    generations: tuple[Generation, ...] = ()


@dataclass
class _Sums:
    """What one lane collects over the batches."""

    loss: Tensor
    count: int
    correct: Tensor
    examples: list[dict[str, Tensor]]


@torch.inference_mode()
def score(model: AdaptedModel, split: Split, data: TaskData, kind: TaskKind, batches: Sequence[Tensor]) -> list[Result]:
    """The participating lanes as they are now, without dropout or label smoothing.

    Args:
        batches: indices of examples, int64 [b] each; results are in the order of the split.
    """
    zero = torch.zeros((), dtype=torch.float64, device=model.device)
    sums = [_Sums(zero.clone(), 0, zero.clone(), []) for _ in model.lanes]
    for rows in batches:
        batch = collate(split, rows, data.pad_id)
        for lane, output in zip(sums, model.forward([batch] * len(model.lanes), training=False), strict=True):
            _add(lane, kind, output, batch)
    order = torch.cat(list(batches)).argsort()
    return [_result(kind, lane, order, data.num_labels) for lane in sums]


def _add(sums: _Sums, kind: TaskKind, output: LaneOutput, batch: Batch) -> None:
    sums.loss += loss_sum(kind, output)
    sums.count += len(output.targets)
    if kind == "regression":
        sums.examples.append({"prediction": output.logits.squeeze(-1), "target": output.targets})
        return
    chosen = output.logits.argmax(dim=-1)
    sums.correct += (chosen == output.targets).sum()
    if kind == "classification":
        sums.examples.append({"prediction": chosen, "target": output.targets})
    else:
        sums.examples.append(_text_losses(output, batch))


def _text_losses(output: LaneOutput, batch: Batch) -> dict[str, Tensor]:
    """Each row's summed loss, and over how many tokens."""
    tokens = predicted(batch).sum(dim=1)
    losses = F.cross_entropy(output.logits, output.targets, reduction="none").cpu()
    rows = torch.arange(len(tokens)).repeat_interleave(tokens)
    return {"loss": torch.zeros(len(tokens), dtype=losses.dtype).index_add(0, rows, losses), "tokens": tokens}


def _result(kind: TaskKind, sums: _Sums, order: Tensor, num_labels: int) -> Result:
    loss = float(sums.loss)
    examples = {name: torch.cat([part[name] for part in sums.examples]).cpu()[order] for name in sums.examples[0]}
    if kind in TEXT_KINDS:
        metrics = language_metrics(loss, sums.count, int(sums.correct))
    else:
        scores = compute_metrics(kind, examples["prediction"].tolist(), examples["target"].tolist(), num_labels)
        metrics = {"loss": loss / sums.count, **scores}
    return Result(finite_scores(metrics), examples, math.isfinite(loss))
