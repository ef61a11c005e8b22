"""peft in one process at its best: the base loaded once, cells one after another in a plain loop.

    python -m src.benchmarks.peers.loop <job.json> <result.json> <setting as JSON>             # all cells
    python -m src.benchmarks.peers.loop <job.json> <result.json> <setting> cell <index>        # one of them
    python -m src.benchmarks.peers.loop <job.json> <result.json> <setting> steps <number>      # only time some steps

Batches are sorted by length and the same as this harness's, AdamW is torch's fused one, evaluations keep the argmax.
"""

from __future__ import annotations

import contextlib
import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from peft.helpers import disable_input_dtype_casting
from torch import Tensor, nn
from transformers import AutoModel

from src.benchmarks.peers.job import Job, PeerCell, PeerResult, num_trained, read_job, read_tokens
from src.benchmarks.peers.job import write_results as write
from src.benchmarks.peers.pooled import PooledClassifier, with_lora
from src.benchmarks.peers.settings import Setting
from src.data import Batch, TaskData, TokenSplit, collate, evaluation_batches
from src.models.hardware import keep_freed_memory
from src.spec import OptimSpec, TaskSpec, TrainerSpec
from src.training.data_order import DataOrder
from src.training.schedule import lr_factor


class PeftLoop:
    """Everything that all cells of a job share.

    Args:
        base: a loaded backbone, frozen by peft as soon as it is wrapped.
    """

    def __init__(self, job: Job, setting: Setting, base: nn.Module | None = None) -> None:
        self.job, self.setting = job, setting
        if setting.keep_memory:
            keep_freed_memory()
        self.device = torch.device(job.device)
        self.base = base or AutoModel.from_pretrained(
            job.model, dtype=getattr(torch, setting.dtype), attn_implementation=setting.attention
        ).to(self.device)
        self.optim, self.trainer = OptimSpec(**job.optim), TrainerSpec(**job.trainer)
        self.data = _task_data(job)
        self.order = DataOrder(self.data, self.trainer)

    def run(self, cell: PeerCell) -> PeerResult:
        """Train a cell, keep its best epoch, test it."""
        started = time.perf_counter()
        with self.adapted(cell) as (model, adapted):
            optimizer = self.optimizer(adapted, cell.lr)
            best, best_state, tokens = -1.0, {}, 0
            for step in range(self.job.steps):
                (batch,) = self.order.batches(self.job.seed, step)
                self.step(model, adapted, optimizer, batch, step)
                tokens += batch.num_tokens
                if self.order.validation_due(step + 1, self.job.steps):
                    score = self.accuracy(model, self.data.validation)
                    if score > best:
                        best, best_state = score, _trained(adapted)
            adapted.load_state_dict(best_state, strict=False)
            test = self.accuracy(model, self.data.test)
            adapter, head = num_trained(adapted)
        return PeerResult(cell.name, best, test, tokens, adapter, head, time.perf_counter() - started)

    def time_steps(self, cell: PeerCell, steps: int) -> float:
        """Seconds of one step, after two that are not counted."""
        with self.adapted(cell) as (model, adapted):
            optimizer = self.optimizer(adapted, cell.lr)
            started = 0.0
            for step in range(steps + 2):
                if step == 2:  # a step ends with its loss on the CPU, so nothing is left to wait for
                    started = time.perf_counter()
                self.step(model, adapted, optimizer, self.order.batches(self.job.seed, step)[0], step)
            return (time.perf_counter() - started) / steps

    def losses(self, adapted: Any, lr: float, steps: int) -> list[float]:
        """Of the first steps, which are taken."""
        optimizer, model = self.optimizer(adapted, lr), adapted.base_model.model
        batches = [self.order.batches(self.job.seed, step)[0] for step in range(steps)]
        return [self.step(model, adapted, optimizer, batch, step) for step, batch in enumerate(batches)]

    @contextlib.contextmanager
    def adapted(self, cell: PeerCell) -> Iterator[tuple[PooledClassifier, Any]]:
        """The base with a new head and new adapters, which leave it again."""
        torch.manual_seed(self.job.seed)
        model = PooledClassifier(self.base, self.job.pooling, self.job.num_labels).to(self.device)
        adapted = with_lora(model, cell)
        self._drop(True)
        try:
            with disable_input_dtype_casting(adapted, self.setting.autocast):
                yield model, adapted
        finally:
            adapted.unload()

    def optimizer(self, adapted: nn.Module, lr: float) -> torch.optim.AdamW:
        """Adapters and head at their own learning rates."""
        optim = self.optim
        trained = {name: p for name, p in adapted.named_parameters() if p.requires_grad}
        lora = [p for name, p in trained.items() if "lora_" in name]
        head = [p for name, p in trained.items() if "lora_" not in name]
        return torch.optim.AdamW(
            [{"params": lora, "peak": lr}, {"params": head, "peak": optim.head_lr}],
            betas=(optim.beta1, optim.beta2), eps=optim.eps, weight_decay=optim.weight_decay, fused=True,
        )  # fmt: skip

    def step(
        self, model: PooledClassifier, adapted: nn.Module, optimizer: torch.optim.AdamW, batch: Batch, step: int
    ) -> float:
        """One optimiser step; gives its loss."""
        for group in optimizer.param_groups:
            group["lr"] = group["peak"] * lr_factor(self.optim, step, self.job.steps)
        loss = nn.functional.cross_entropy(self._logits(model, batch), batch.labels.to(self.device))
        loss.backward()
        if self.optim.clip is not None:
            trained = [p for p in adapted.parameters() if p.requires_grad]
            torch.nn.utils.clip_grad_norm_(trained, self.optim.clip)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return float(loss.detach())

    @torch.inference_mode()
    def accuracy(self, model: PooledClassifier, split: Any) -> float:
        """Share of the examples whose class has the largest logit."""
        self._drop(False)
        right = torch.tensor(0)
        for rows in evaluation_batches(split, self.trainer.eval_batch_size):
            batch = collate(split, rows, self.data.pad_id)
            right += (self._logits(model, batch).argmax(dim=-1).cpu() == batch.labels).sum()
        self._drop(True)
        return int(right) / len(split)

    def _drop(self, training: bool) -> None:
        """The adapters' dropout lies within the base, whose own is off, as it is with this harness."""
        self.base.eval()
        for name, module in self.base.named_modules():
            if "lora_dropout" in name:
                module.train(training)

    def _logits(self, model: PooledClassifier, batch: Batch) -> Tensor:
        dtype = getattr(torch, self.setting.dtype)
        assert batch.input_ids is not None
        ids, mask = batch.input_ids.to(self.device), batch.attention_mask.to(self.device)
        with torch.autocast(self.device.type, dtype) if self.setting.autocast else contextlib.nullcontext():
            hidden = self.base(input_ids=ids, attention_mask=mask).last_hidden_state
        return model.classify(hidden, mask)


def _task_data(job: Job) -> TaskData:
    train, validation, test = (
        TokenSplit(split.ids, split.offsets, labels=split.labels) for split in read_tokens(job.tokens).values()
    )
    return TaskData(
        TaskSpec("", "classification"), train, validation, test,
        label_names=None, num_labels=job.num_labels, pad_id=job.pad_id, report={},
    )  # fmt: skip


def _trained(adapted: nn.Module) -> dict[str, Tensor]:
    return {name: p.detach().clone() for name, p in adapted.named_parameters() if p.requires_grad}


def main(arguments: list[str]) -> None:
    """Read the job, train cells or time a few steps, write what came out."""
    job_file, result, given, *what = arguments
    job, setting = read_job(Path(job_file)), Setting(**json.loads(given))
    loop = PeftLoop(job, setting)
    match what:
        case ["steps", number]:
            write([], Path(result), step_s=loop.time_steps(job.cells[-1], int(number)))
        case ["cell", index]:
            write([loop.run(job.cells[int(index)])], Path(result))
        case _:
            write([loop.run(cell) for cell in job.cells], Path(result))


if __name__ == "__main__":
    main(sys.argv[1:])
