"""What adapted models do on validation examples, without the trainer: scores, features and losses on plain text."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor
from torch.nn import functional as F

from src.adapters.budget import Allocation, adapter_parameters
from src.analysis.subjects import Candidate, Subject
from src.data import Split, TokenSplit, collate
from src.models.adapted import AdaptedModel
from src.models.hardware import choose_attention, resolve_dtype
from src.models.heads import pool
from src.models.loading import Base, load_base
from src.models.preprocessing import load_data
from src.models.score import score
from src.models.setup import LaneSetup
from src.spec import TEXT_KINDS, RunSpec

# Logits of a language model over whole texts are large: rows x tokens x vocabulary.
ROWS_AT_ONCE, TEXTS_AT_ONCE = 32, 8


class Probe:
    """Saved runs of one base, task and pooling as lanes over the frozen base; lane 0 is the base as it was.

    Args:
        subjects: adapters of runs.
        examples: of validation, at most; spread evenly over the split.

    Attributes:
        lanes: the runs by lane, in their order, without those whose saved state does not fit.
        left_out: why these are missing.
        chosen: indices of the examples.

    Raises:
        HarnessError: the base or the data cannot be loaded.
    """

    def __init__(self, subjects: Sequence[Subject], examples: int, cache_dir: Path, device: torch.device) -> None:
        runs = [subject.candidate for subject in subjects if subject.candidate is not None]
        self.spec = runs[0].spec
        self.data = load_data(self.spec.model, self.spec.task, cache_dir)
        count = min(examples, len(self.data.validation))
        self.chosen = torch.arange(count) * len(self.data.validation) // count
        self.base = _load(self.spec, cache_dir, device)
        setups = [_setup(run, subject) for run, subject in zip(runs, subjects, strict=True)]
        # A lane at its start has B = 0: the base itself.
        self.model = AdaptedModel(
            self.base, [setups[0], *setups], num_labels=self.data.num_labels, pad_id=self.data.pad_id
        )
        self.lanes: dict[int, Subject] = {}
        self.left_out: list[str] = []
        for lane, (subject, run) in enumerate(zip(subjects, runs, strict=True), start=1):
            try:
                self._fill(lane, subject, run)
                self.lanes[lane] = subject
            except (OSError, SafetensorError, ValueError) as error:
                self.left_out.append(f"truncation and forgetting of {subject.name} left out: {error}.")

    def score(self, lane: int) -> float | None:
        """The task's metric on the chosen examples, without dropout."""
        return self._metrics(lane, self.data.validation).get(self.spec.task.metric)

    def text_loss(self, lane: int) -> float | None:
        """Mean loss in nats a token on whole texts, prompt and completion alike."""
        split = self.data.validation
        assert isinstance(split, TokenSplit) and split.completion_starts is not None
        whole = dataclasses.replace(split, completion_starts=torch.zeros_like(split.completion_starts))
        return self._metrics(lane, whole)["loss"]

    @torch.inference_mode()
    def features(self, lane: int) -> Tensor:
        """Pooled last hidden states of the chosen examples, n x d in float64; the same order for every lane.

        Of seq2seq they are the decoder's, while it is told the completion.
        """
        self.model.retain([lane])
        pooled = []
        for rows in self._batches(self.data.validation):
            batch = collate(self.data.validation, rows, self.data.pad_id)
            (hidden,) = self.model.hidden([batch])
            pooled.append(pool(hidden.double(), batch.output_mask.to(hidden.device), self.spec.model.pooling))
        return torch.cat(pooled)

    def _metrics(self, lane: int, split: Split) -> dict[str, float | None]:
        self.model.retain([lane])
        (result,) = score(self.model, split, self.data, self.spec.task.kind, self._batches(split))
        return result.metrics

    def _batches(self, split: Split) -> list[Tensor]:
        """Indices of the chosen examples, sorted by length so that little is padded."""
        rows = TEXTS_AT_ONCE if self.spec.task.kind in TEXT_KINDS else ROWS_AT_ONCE
        return list(self.chosen[split.lengths[self.chosen].argsort(stable=True)].split(rows))

    def _fill(self, lane: int, subject: Subject, run: Candidate) -> None:
        """Raises:
        OSError, SafetensorError, ValueError: the head is missing or damaged, or the state does not fit.
        """
        rank, state = self.model.setups[lane].allocation.rank, self.model.state(lane)
        for key, adapter in subject.adapters.items():
            # Letters differ in rank where a fused weight's zero columns were left out; zero-padding is exact.
            missing = rank - len(adapter.a)
            state[f"{key}.A"] = F.pad(adapter.a.detach(), (0, 0, 0, missing))
            state[f"{key}.B"] = F.pad(adapter.scale * adapter.b.detach(), (0, missing))
        if self.data.num_labels:
            state |= load_file(run.run.head)
        self.model.load_state(lane, state)


def _load(spec: RunSpec, cache_dir: Path, device: torch.device) -> Base:
    """In the precision in which the run was trained and scored."""
    dtype = resolve_dtype(spec.trainer.dtype, device)
    attention = choose_attention(device, dtype, spec.task.max_length)
    return load_base(spec.model, spec.task.kind, cache_dir, device=device, dtype=dtype, attention=attention)


def _setup(run: Candidate, subject: Subject) -> LaneSetup:
    """Plain adapters of one rank and scale 1, into which whatever was saved fits."""
    rank = max(len(adapter.a) for adapter in subject.adapters.values())
    lora = dataclasses.replace(
        run.spec.lora, rank=rank, budget=None, alpha=float(rank), init="kaiming", rslora=False, ranks=None, fill="none"
    )
    ranks = (rank,) * len(subject.projections)
    allocation = Allocation(rank, adapter_parameters(subject.projections, ranks), ranks=ranks)
    return LaneSetup(dataclasses.replace(run.spec, lora=lora), subject.projections, allocation)
