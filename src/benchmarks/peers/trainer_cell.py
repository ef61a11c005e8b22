"""peft with transformers' Trainer at its defaults: one cell in a process of its own, as a shell loop would start it.

    python -m src.benchmarks.peers.trainer_cell <job.json> <index of the cell> <result.json>

Set are only the numbers that make it the same task: examples, batch size, steps, learning rates, schedule, and that
the best epoch on validation is kept and tested. Everything else, the evaluation's batch size among it, is a default.
"""

from __future__ import annotations

import math
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import Dataset
from transformers import AutoModel, Trainer, TrainingArguments, set_seed

from src.benchmarks.peers.job import Examples, Job, PeerResult, num_trained, read_job, read_tokens, write_results
from src.benchmarks.peers.pooled import PooledClassifier, with_lora


class Texts(Dataset[dict[str, Any]]):
    """A split for the Trainer."""

    def __init__(self, examples: Examples) -> None:
        self.examples = examples

    def __len__(self) -> int:
        return len(self.examples)

    def __getitem__(self, i: int) -> dict[str, Any]:
        start, end = self.examples.offsets[i], self.examples.offsets[i + 1]
        return {"input_ids": self.examples.ids[start:end].long(), "labels": self.examples.labels[i]}


def train(job: Job, index: int, folder: str) -> PeerResult:
    """Train, keep the best epoch, test."""
    started = time.perf_counter()
    set_seed(job.seed)
    backbone = AutoModel.from_pretrained(job.model, dtype=torch.float32)
    model = PooledClassifier(backbone, job.pooling, job.num_labels)
    adapted = with_lora(model, job.cells[index])
    splits = {role: Texts(examples) for role, examples in read_tokens(job.tokens).items()}
    arguments = make_arguments(job, job.cells[index].lr, folder)
    trainer = Trainer(
        model=adapted,
        args=arguments,
        train_dataset=splits["train"],
        eval_dataset=splits["validation"],
        data_collator=lambda examples: collate(examples, job.pad_id),
        compute_metrics=accuracy,
        optimizers=(make_optimizer(adapted, job, arguments), None),
    )
    trainer.train()
    validation = trainer.evaluate()["eval_accuracy"]
    test = trainer.evaluate(splits["test"])["eval_accuracy"]
    adapter, head = num_trained(adapted)
    return PeerResult(
        job.cells[index].name, validation, test, model.num_tokens, adapter, head, time.perf_counter() - started
    )


def make_arguments(job: Job, lr: float, folder: str) -> TrainingArguments:
    """The task's own numbers; the rest are the Trainer's defaults."""
    optim, trainer = job.optim, job.trainer
    return TrainingArguments(
        output_dir=folder,
        per_device_train_batch_size=trainer["batch_size"],
        num_train_epochs=trainer["epochs"],
        max_steps=trainer["max_steps"] or -1,
        learning_rate=lr,
        lr_scheduler_type={"constant": "constant_with_warmup"}.get(optim["schedule"], optim["schedule"]),
        warmup_steps=math.ceil(optim["warmup"] * job.steps),
        max_grad_norm=optim["clip"] or 0.0,
        eval_strategy="epoch",
        save_strategy="epoch",
        load_best_model_at_end=True,
        metric_for_best_model="accuracy",
        seed=job.seed,
    )


def make_optimizer(model: torch.nn.Module, job: Job, arguments: TrainingArguments) -> torch.optim.Optimizer:
    """The Trainer's default optimiser, with the head at its own learning rate."""
    kind, options = Trainer.get_optimizer_cls_and_kwargs(arguments)
    options |= {"betas": (job.optim["beta1"], job.optim["beta2"]), "eps": job.optim["eps"]}
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    heads = [p for name, p in trained.items() if "lora_" not in name]
    groups = [
        {"params": [p for name, p in trained.items() if "lora_" in name]},
        {"params": heads, "lr": job.optim["head_lr"]},
    ]
    optimizer: torch.optim.Optimizer = kind(groups, **{**options, "weight_decay": job.optim["weight_decay"]})
    return optimizer


def collate(examples: list[dict[str, Any]], pad_id: int) -> dict[str, torch.Tensor]:
    """Padded to the longest, as DataCollatorWithPadding does."""
    ids = [example["input_ids"] for example in examples]
    mask = torch.nn.utils.rnn.pad_sequence([torch.ones_like(row) for row in ids], batch_first=True)
    return {
        "input_ids": torch.nn.utils.rnn.pad_sequence(ids, batch_first=True, padding_value=pad_id),
        "attention_mask": mask,
        "labels": torch.stack([example["labels"] for example in examples]),
    }


def accuracy(prediction: Any) -> dict[str, float]:
    """For the Trainer's evaluations."""
    logits = prediction.predictions
    return {"accuracy": float((logits.argmax(axis=-1) == prediction.label_ids).mean())}


def main(arguments: list[str]) -> None:
    """Read the job, train the cell, write what it came to."""
    file, index, result = arguments
    with tempfile.TemporaryDirectory(prefix="lora-sweep-trainer-") as folder:
        write_results([train(read_job(Path(file)), int(index), folder)], Path(result))


if __name__ == "__main__":
    main(sys.argv[1:])
