"""Studies of any size whose runs were simulated; their files go through the writers that a sweep uses."""

from __future__ import annotations

from itertools import combinations, islice, product
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors.numpy import save

from src.records import (
    MEMORY,
    Failure,
    HistoryPoint,
    Metrics,
    Params,
    RunRecord,
    StudyPaths,
    write_bytes_atomic,
    write_plan,
    write_record,
)
from src.spec import LETTERS, LoraSpec, ModelSpec, OptimSpec, RunSpec, TaskSpec, TrainerSpec, normalise, run_id, to_dict
from src.spec.seeds import derive_seed

RANKS = (1, 2, 4, 6, 8, 12, 16, 32, 64, 128)
RATES = (0.0003, 0.001, 0.003, 0.01)
TARGET_SETS = tuple("".join(kept) for size in range(1, 8) for kept in combinations(LETTERS, size))
WIDTH, NUM_CLASSES, EPOCHS = 384, 52, 4
# Of 100 runs so many end without a score, as some do in every sweep at its highest learning rates.
DIVERGED, FAILED = 2, 1
ENVIRONMENT = {
    "versions": {"python": "3.11.9", "torch": "2.13.0", "transformers": "5.23.0", "hydra-core": "1.3.8"},
    "device": "cpu",
    "device_name": "simulated processor",
    "dtype": "float32",
    "threads": 2,
    "platform": "simulated",
    "git": {"commit": "0" * 40, "dirty": False},
}


def write_records(paths: StudyPaths, number: int, *, seeds: int = 5, examples: int = 1000) -> None:
    """A study of `number` runs: target sets by ranks by learning rates by `seeds` seeds, with predictions on test.

    Args:
        examples: of test, for each of which a run leaves a prediction; 0 for none.

    Raises:
        WriteError: the system refused to write.
        ValueError: more runs than the design has.
    """
    specs = simulated_specs(number, seeds)
    target = np.random.default_rng(derive_seed(0, "target")).integers(NUM_CLASSES, size=examples)
    for spec in specs:
        record, prediction = simulate(spec, target)
        run = paths.run(record.run_id)
        if prediction is not None:
            write_bytes_atomic(run.predictions, save({"prediction": prediction, "target": target}))
        write_record(record, run.record)
    write_plan([run_id(spec) for spec in specs], paths)


def simulated_specs(number: int, seeds: int = 5) -> list[RunSpec]:
    """The first `number` cells of a design with all ranks of a target set together and seeds innermost.

    Raises:
        ValueError: more runs than the design has.
    """
    axes = product(TARGET_SETS, RANKS, RATES, range(seeds))
    specs = [_spec(targets, rank, rate, seed) for targets, rank, rate, seed in islice(axes, number)]
    if len(specs) < number:
        raise ValueError(f"{number} runs, and the design with {seeds} seeds has {len(specs)}")
    return specs


def _spec(targets: str, rank: int, rate: float, seed: int) -> RunSpec:
    return normalise(
        RunSpec(
            model=ModelSpec("asset:minilm"),
            task=TaskSpec("asset:r52", "classification"),
            lora=LoraSpec(targets, rank=rank, budget=None, alpha=16.0),
            optim=OptimSpec(lr=rate, head_lr=0.01),
            trainer=TrainerSpec(),
            seed=seed,
        )
    )


def simulate(spec: RunSpec, target: npt.NDArray[np.int64]) -> tuple[RunRecord, npt.NDArray[np.int64] | None]:
    """A record whose score depends on matrices, rank and learning rate, and its predictions [n].

    Args:
        target: classes of the test examples [n]; may be empty.
    """
    name = run_id(spec)
    generator = np.random.default_rng(derive_seed(spec.seed, name))
    lora, fate = spec.lora, int(generator.integers(100))
    if fate < DIVERGED + FAILED:
        status = "diverged" if fate < DIVERGED else "failed"
        return _record(spec, name, status, Metrics(), Failure("ValueError", "the loss is not finite", "")), None
    off = np.log10(spec.optim.lr / 0.003)
    quality = 0.8 + 0.01 * len(lora.targets) + 0.004 * np.log2(lora.rank or 1) - 0.03 * off**2
    quality += 0.004 * float(generator.normal())
    right = generator.random(len(target)) < quality
    prediction = np.where(
        right, target, (target + 1 + generator.integers(NUM_CLASSES - 1, size=len(target))) % NUM_CLASSES
    )
    test = float((prediction == target).mean()) if len(target) else float(quality)
    validation = float(quality + 0.003 * generator.normal())
    history = tuple(
        HistoryPoint(125 * epoch, float(epoch), 1.5 / epoch, {"accuracy": validation - 0.05 * (EPOCHS - epoch) ** 2})
        for epoch in range(1, EPOCHS + 1)
    )
    metrics = Metrics({"accuracy": validation, "macro_f1": 0.8 * validation}, {"accuracy": test}, history)
    return _record(spec, name, "completed", metrics, None), prediction if len(target) else None


def _record(spec: RunSpec, name: str, status: Any, metrics: Metrics, error: Failure | None) -> RunRecord:
    lora, whole = spec.lora, status == "completed"
    adapter, head = 2 * WIDTH * (lora.rank or 0) * len(lora.targets) * 6, WIDTH * NUM_CLASSES + NUM_CLASSES
    sizes: dict[str, int | None] = dict.fromkeys(MEMORY)
    if whole:
        trained = 4 * (adapter + head)
        sizes |= {"frozen_weight_bytes": 90_000_000, "trained_weight_bytes": trained, "gradient_bytes": trained}
        sizes |= {"optimizer_bytes": 2 * trained, "activation_bytes": 300_000_000, "peak_bytes": 10**9 + trained}
        sizes |= {"checkpoint_bytes": trained, "training_checkpoint_bytes": 3 * trained}
    seconds = 30.0 + adapter / 10**5
    return RunRecord(
        run_id=name,
        status=status,
        error=error,
        spec=to_dict(spec),
        params=Params(adapter, head, 22_713_216, lora.rank),
        metrics=metrics,
        best_epoch=float(EPOCHS) if whole else None,
        time={
            "total_s": seconds,
            "train_s": 0.9 * seconds,
            "tokens": 10**6,
            "tokens_per_s": 10**6 / seconds,
            "pack_size": 8,
        },
        memory=sizes,
        env=ENVIRONMENT,
        data={
            "path": "asset:r52",
            "sha256": "0" * 64,
            "splits": {"train": {"examples": 5880}, "validation": {"examples": 652}, "test": {"examples": 1000}},
        },
        tracking={"backend": "none", "id": None},
    )
