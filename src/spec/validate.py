"""Checks that need no model and no data: every value of a RunSpec against what is allowed."""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Iterator
from typing import Any, Literal, get_args, get_origin, get_type_hints

from src.errors import ConfigError
from src.spec.margin import ALLOWED_MARGIN, is_margin
from src.spec.run import LoraSpec, OptimSpec, RunSpec, Settings, TaskSpec, TrainerSpec
from src.spec.targets import canonical_targets

METRICS = {
    "classification": ("accuracy", "f1", "macro_f1", "matthews", "loss"),
    "regression": ("pearson", "spearman", "mse", "loss"),
    "causal_lm": ("loss", "perplexity", "token_accuracy"),
}
LOWER_IS_BETTER = frozenset({"loss", "perplexity", "mse"})
_LAYERS = re.compile(r"(\d+)-(\d+)")
_LAYERS_ALLOWED = "a-b, the first and the last layer counted from 0, such as 0-5 or 3-3; or null for all"
Check = tuple[str, object, bool, str]


def normalise(spec: RunSpec) -> RunSpec:
    """Check a spec and give its one canonical form, so that equal runs have equal identities.

    Targets are brought into canonical order. With targets ``none`` there are no adapters: what only shapes
    adapters is set to fixed values, so that a sweep over ranks has one head-only cell, not many.

    Raises:
        ConfigError: the first value that is not allowed.
    """
    check_literals(spec)
    targets = canonical_targets(spec.lora.targets)
    for key, value, good, allowed in _checks(spec, adapted=targets != "none"):
        if not good:
            raise ConfigError(key, value, allowed)
    if targets == "none":
        lora = LoraSpec("none", rank=None, budget=None, alpha=1.0)
        return dataclasses.replace(spec, lora=lora, optim=dataclasses.replace(spec.optim, lr=spec.optim.head_lr))
    return dataclasses.replace(spec, lora=dataclasses.replace(spec.lora, targets=targets))


def check_settings(settings: Settings) -> Settings:
    """Raises:
    ConfigError: a setting that is not allowed.
    """
    check_literals(settings)
    tracking, halving = settings.tracking, settings.halving
    checks: list[Check] = [
        ("device", settings.device, re.fullmatch(r"auto|cpu|cuda(:\d+)?", settings.device) is not None,
         "auto, cpu, cuda or cuda:<index>"),
        ("pack_size", settings.pack_size, settings.pack_size >= 1, "a whole number of at least 1"),
        ("within", settings.within, is_margin(settings.within), ALLOWED_MARGIN),
        ("study", settings.study, re.fullmatch(r"[\w.][\w.+=-]*", settings.study) is not None
         and settings.study.strip(".") != "", "a folder name of letters, digits and . _ + = -"),
        ("halving.eta", halving.eta, halving.eta is None or halving.eta >= 2, "2 or more, or null for no halving"),
        ("halving.min_share", halving.min_share, 0 < halving.min_share < 1, "a number in (0, 1)"),
        ("tracking.log_every", tracking.log_every, tracking.log_every >= 1, "a whole number of at least 1"),
        ("tracking.init_timeout_s", tracking.init_timeout_s, tracking.init_timeout_s > 0, "seconds above 0"),
        ("tracking.finish_timeout_s", tracking.finish_timeout_s, tracking.finish_timeout_s > 0, "seconds above 0"),
    ]  # fmt: skip
    for key, value, good, allowed in checks:
        if not good:
            raise ConfigError(key, value, allowed)
    return settings


def layer_range(text: str | None, num_layers: int, key: str = "lora.layers") -> range:
    """Layers that ``a-b`` (inclusive) or None (all) means in a model of `num_layers`.

    Raises:
        ConfigError: not of that form, or outside the model.
    """
    if text is None:
        return range(num_layers)
    match = _LAYERS.fullmatch(text)
    if match is None or not int(match[1]) <= int(match[2]) < num_layers:
        raise ConfigError(key, text, f"a-b with 0 <= a <= b <= {num_layers - 1}, or null for all layers")
    return range(int(match[1]), int(match[2]) + 1)


def check_literals(spec: Any, prefix: str = "") -> None:
    """Raises:
    ConfigError: a field typed Literal holds another value.
    """
    hints = get_type_hints(type(spec))
    for f in dataclasses.fields(spec):
        value, hint = getattr(spec, f.name), hints[f.name]
        if dataclasses.is_dataclass(value):
            check_literals(value, f"{prefix}{f.name}.")
        elif get_origin(hint) is Literal and value not in get_args(hint):
            raise ConfigError(f"{prefix}{f.name}", value, " or ".join(map(str, get_args(hint))))


def _checks(spec: RunSpec, *, adapted: bool) -> Iterator[Check]:
    yield "seed", spec.seed, 0 <= spec.seed < 2**32, "a whole number from 0 to 4294967295"
    if adapted:
        yield from _lora_checks(spec.lora)
    yield from _optim_checks(spec.optim)
    yield from _trainer_checks(spec.trainer)
    yield from _task_checks(spec.task)
    smooth_ok = spec.task.kind != "regression" or spec.optim.label_smoothing == 0
    yield "optim.label_smoothing", spec.optim.label_smoothing, smooth_ok, "0 for a regression task"
    yield "model.path", spec.model.path, bool(spec.model.path), "asset:<name>, a hub id or a local folder"


def _lora_checks(lora: LoraSpec) -> Iterator[Check]:
    one = (lora.rank is None) != (lora.budget is None)
    yield "lora.rank, lora.budget", (lora.rank, lora.budget), one, "exactly one of the two, the other null"
    whole = "a whole number of at least 1"
    yield "lora.rank", lora.rank, lora.rank is None or lora.rank >= 1, whole + ", at most the matrix's smaller side"
    yield "lora.budget", lora.budget, lora.budget is None or lora.budget >= 1, whole
    yield "lora.alpha", lora.alpha, _finite(lora.alpha) and lora.alpha > 0, "a number above 0"
    yield "lora.dropout", lora.dropout, 0 <= lora.dropout < 1, "a number in [0, 1)"
    yield "lora.layers", lora.layers, lora.layers is None or bool(_LAYERS.fullmatch(lora.layers)), _LAYERS_ALLOWED


def _optim_checks(optim: OptimSpec) -> Iterator[Check]:
    for name in ("lr", "head_lr", "eps"):
        value = getattr(optim, name)
        yield f"optim.{name}", value, _finite(value) and value > 0, "a number above 0"
    for name in ("beta1", "beta2", "warmup", "label_smoothing"):
        value = getattr(optim, name)
        yield f"optim.{name}", value, 0 <= value < 1, "a number in [0, 1)"
    decay = optim.weight_decay
    yield "optim.weight_decay", decay, _finite(decay) and decay >= 0, "a number of at least 0"
    clips = optim.clip is None or (_finite(optim.clip) and optim.clip > 0)
    yield "optim.clip", optim.clip, clips, "a number above 0, or null"


def _trainer_checks(trainer: TrainerSpec) -> Iterator[Check]:
    for name in ("epochs", "batch_size", "accumulation", "eval_batch_size", "checkpoint_every"):
        value = getattr(trainer, name)
        yield f"trainer.{name}", value, value >= 1, "a whole number of at least 1"
    for name in ("max_steps", "eval_every", "patience"):
        value = getattr(trainer, name)
        yield f"trainer.{name}", value, value is None or value >= 1, "a whole number of at least 1, or null"
    fits = trainer.accumulation <= trainer.batch_size
    yield "trainer.accumulation", trainer.accumulation, fits, f"at most trainer.batch_size ({trainer.batch_size})"


def _task_checks(task: TaskSpec) -> Iterator[Check]:
    yield "task.path", task.path, bool(task.path), "asset:<name>, pydoc, a hub id, a local folder or a file"
    yield "task.max_length", task.max_length, task.max_length >= 4, "a whole number of at least 4"
    for name in ("train_size", "validation_size", "test_size"):
        value = getattr(task, name)
        yield f"task.{name}", value, value is None or value >= 1, "a whole number of at least 1, or null"
    yield "task.split_seed", task.split_seed, 0 <= task.split_seed < 2**32, "a whole number from 0 to 4294967295"
    metrics = METRICS[task.kind]
    yield "task.metric", task.metric, task.metric in metrics, f"for {task.kind}: {', '.join(metrics)}"
    if task.kind == "causal_lm":
        for name in ("prompt", "completion"):
            value = getattr(task, name)
            yield f"task.{name}", value, bool(value), "a template such as '{text}' for a causal_lm task"


def _finite(value: float) -> bool:
    return math.isfinite(value)
