"""Checks that need no model and no data: every value of a RunSpec against what is allowed."""

from __future__ import annotations

import dataclasses
import functools
import math
import re
from collections.abc import Iterator
from typing import Any, Literal, get_args, get_origin

from src.errors import ConfigError
from src.spec.hints import hints_of
from src.spec.margin import ALLOWED_MARGIN, is_margin
from src.spec.methods import SIZED, WITH_LORA
from src.spec.plain import check_plain
from src.spec.ranks import canonical_ranks, parse_ranks
from src.spec.run import TEXT_KINDS, LoraSpec, MethodSpec, OptimSpec, RunSpec, TaskSpec, TrainerSpec
from src.spec.settings import Settings
from src.spec.slurm import slurm_checks
from src.spec.targets import STACKS, canonical_targets

METRICS = {
    "classification": ("accuracy", "f1", "macro_f1", "matthews", "loss"),
    "regression": ("pearson", "spearman", "mse", "loss"),
    "causal_lm": ("loss", "perplexity", "token_accuracy"),
    "seq2seq": ("loss", "perplexity", "token_accuracy"),
}
# Of the texts that a model writes for test (TaskSpec.generate); never chosen by, as validation texts are not written.
TEXT_METRICS = ("bleu", "chrf", "rouge1", "rouge2", "rougeL", "exact_match")
LONGEST_STUDY = 120  # bytes; W&B's names of runs and groups are limited, and so are folders
DAY = 24 * 60 * 60
LOWER_IS_BETTER = frozenset({"loss", "perplexity", "mse"})
_LAYERS = re.compile(r"([0-9]{1,6})-([0-9]{1,6})")
_LAYERS_ALLOWED = "a-b, the first and the last layer counted from 0, such as 0-5 or 3-3; or null for all"
Check = tuple[str, object, bool, str]


def normalise(spec: RunSpec) -> RunSpec:
    """Check a spec and give its one canonical form, so that equal runs have equal identities.

    Targets are brought into canonical order. What only shapes adapters that a cell does not have is set to fixed
    values, so that a sweep over ranks has one head-only cell, not many; ``method=head`` is targets ``none``. So is what
    only shapes generated text, where none is generated.

    Raises:
        ConfigError: the first value that is not allowed.
    """
    check_literals(spec)
    if spec.method.name == "head" and spec.method.size is None:
        spec = dataclasses.replace(spec, method=MethodSpec(), lora=dataclasses.replace(spec.lora, targets="none"))
    targets = canonical_targets(spec.lora.targets)
    lora = spec.method.name in WITH_LORA and targets != "none"
    for key, value, good, allowed in _checks(spec, lora=lora):
        if not good:
            raise ConfigError(key, value, allowed)
    check_plain(spec)
    method = spec.method if spec.method.name == "random_subspace" else dataclasses.replace(spec.method, said=True)
    spec = dataclasses.replace(spec, task=_canonical_task(spec.task), method=method)
    if lora:
        return dataclasses.replace(spec, lora=_canonical_lora(spec.lora, targets))
    budget = spec.lora.budget if spec.method.name in SIZED else None
    spec = dataclasses.replace(spec, lora=LoraSpec("none", rank=None, budget=budget, alpha=1.0))
    if spec.method.name == "lora":
        spec = dataclasses.replace(spec, optim=dataclasses.replace(spec.optim, lr=spec.optim.head_lr))
    return spec


def _canonical_task(task: TaskSpec) -> TaskSpec:
    """Settings of generation stay only where they count."""
    if not task.generate:
        return dataclasses.replace(task, beams=1, length_penalty=1.0, no_repeat_ngram=0, max_new_tokens=64)
    return task if task.beams > 1 else dataclasses.replace(task, length_penalty=1.0)


def _canonical_lora(lora: LoraSpec, targets: str) -> LoraSpec:
    stacks = None
    if lora.stacks is not None:
        stacks = "+".join(stack for stack in STACKS if stack in lora.stacks.split("+"))
    ranks = None if lora.ranks is None else canonical_ranks(lora.ranks)
    return dataclasses.replace(lora, targets=targets, stacks=stacks, ranks=ranks)


def check_settings(settings: Settings) -> Settings:
    """Raises:
    ConfigError: a setting that is not allowed.
    """
    check_literals(settings)
    tracking, halving = settings.tracking, settings.halving
    seconds = f"seconds above 0, at most {DAY} (a day)"
    checks: list[Check] = [
        ("device", settings.device, re.fullmatch(r"auto|cpu|cuda(:[0-9]{1,4})?", settings.device) is not None,
         "auto, cpu, cuda or cuda:<index>"),
        ("pack", settings.pack, _is_pack(settings.pack), "auto, or a whole number of at least 1"),
        ("within", settings.within, is_margin(settings.within), ALLOWED_MARGIN),
        ("study", settings.study, re.fullmatch(r"[\w.][\w.+=-]*", settings.study) is not None
         and settings.study.strip(".") != "" and len(settings.study.encode()) <= LONGEST_STUDY,
         f"a folder name of letters, digits and . _ + = -, of at most {LONGEST_STUDY} bytes"),
        ("halving.eta", halving.eta, halving.eta is None or halving.eta >= 2, "2 or more, or null for no halving"),
        ("halving.min_share", halving.min_share, 0 < halving.min_share < 1, "a number in (0, 1)"),
        ("tracking.log_every", tracking.log_every, tracking.log_every >= 1, "a whole number of at least 1"),
        ("tracking.init_timeout_s", tracking.init_timeout_s, 0 < tracking.init_timeout_s <= DAY, seconds),
        ("tracking.finish_timeout_s", tracking.finish_timeout_s, 0 < tracking.finish_timeout_s <= DAY, seconds),
        *slurm_checks(settings.slurm),
    ]  # fmt: skip
    for key, value, good, allowed in checks:
        if not good:
            raise ConfigError(key, value, allowed)
    check_plain(settings)
    return settings


def _is_pack(value: object) -> bool:
    return value == "auto" or (isinstance(value, int) and value >= 1)


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
    kind: Any = type(spec)
    for name, allowed in _restricted(kind):
        value = getattr(spec, name)
        if allowed is None:
            check_literals(value, f"{prefix}{name}.")
        elif value not in allowed:
            raise ConfigError(f"{prefix}{name}", value, " or ".join(map(str, allowed)))


@functools.cache
def _restricted(kind: Any) -> tuple[tuple[str, tuple[Any, ...] | None], ...]:
    """Fields typed Literal with the values that they may hold, and fields that are specs themselves, with None."""
    hints = hints_of(kind)
    return tuple(
        (name, get_args(hint) if get_origin(hint) is Literal else None)
        for name, hint in hints.items()
        if get_origin(hint) is Literal or dataclasses.is_dataclass(hint)
    )


def _checks(spec: RunSpec, *, lora: bool) -> Iterator[Check]:
    yield "seed", spec.seed, 0 <= spec.seed < 2**32, "a whole number from 0 to 4294967295"
    yield from _method_checks(spec.method, spec.lora)
    if lora:
        yield from _lora_checks(spec.lora)
    yield from _optim_checks(spec.optim)
    yield from _trainer_checks(spec.trainer)
    yield from _task_checks(spec.task)
    smooth_ok = spec.task.kind != "regression" or spec.optim.label_smoothing == 0
    yield "optim.label_smoothing", spec.optim.label_smoothing, smooth_ok, "0 for a regression task"
    poolable = spec.task.image is None or spec.model.pooling != "last"
    yield "model.pooling", spec.model.pooling, poolable, "mean or first for pictures, whose last token is just a patch"
    path = spec.model.path
    yield "model.path", path, bool(path) and "://" not in path, "asset:<name>, a hub id or a local folder, no address"


def _method_checks(method: MethodSpec, lora: LoraSpec) -> Iterator[Check]:
    sized = method.name in SIZED
    yield "method.size", method.size, sized or method.size is None, f"null: {method.name} has no size of its own"
    positive = method.size is None or method.size >= 1
    yield "method.size", method.size, positive, "a whole number of at least 1, or null with lora.budget"
    if method.name == "lora_prefix":
        some = method.size is not None and lora.targets != "none"
        yield (
            "method.size",
            method.size,
            some,
            "tokens of the prefix; lora.targets, lora.rank or lora.budget are the rest",
        )
    elif sized:
        one = (method.size is None) != (lora.budget is None)
        allowed = "exactly one of the two, the other null"
        yield "method.size, lora.budget", (method.size, lora.budget), one, allowed
        positive = lora.budget is None or lora.budget >= 1
        yield "lora.budget", lora.budget, positive, "a whole number of at least 1"


def _lora_checks(lora: LoraSpec) -> Iterator[Check]:
    one = (lora.rank is None) != (lora.budget is None)
    yield "lora.rank, lora.budget", (lora.rank, lora.budget), one, "exactly one of the two, the other null"
    whole = "a whole number of at least 1"
    yield "lora.rank", lora.rank, lora.rank is None or lora.rank >= 1, whole + ", at most the matrix's smaller side"
    yield "lora.budget", lora.budget, lora.budget is None or lora.budget >= 1, whole
    yield "lora.alpha", lora.alpha, _finite(lora.alpha) and lora.alpha > 0, "a number above 0"
    yield "lora.dropout", lora.dropout, 0 <= lora.dropout < 1, "a number in [0, 1)"
    yield "lora.layers", lora.layers, lora.layers is None or bool(_LAYERS.fullmatch(lora.layers)), _LAYERS_ALLOWED
    ratio = _finite(lora.b_lr_ratio) and lora.b_lr_ratio > 0
    yield "lora.b_lr_ratio", lora.b_lr_ratio, ratio, "a number above 0; 1 for the same learning rate, 16 in LoRA+"
    uniform = lora.ranks is None or lora.budget is None
    yield "lora.ranks", lora.ranks, uniform, "null with lora.budget, from which one rank follows"
    if lora.ranks is not None:
        parse_ranks(lora.ranks)
    fills = lora.fill == "none" or lora.budget is not None
    yield "lora.fill", lora.fill, fills, "none without lora.budget, as there is nothing to fill up"
    stacks = lora.stacks is None or _is_stacks(lora.stacks)
    yield "lora.stacks", lora.stacks, stacks, f"{', '.join(STACKS)}, or several joined by +; null for all"


def _is_stacks(text: str) -> bool:
    names = text.split("+")
    return set(names) <= set(STACKS) and len(set(names)) == len(names)


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
    sources = "asset:<name>, pydoc, digits, a hub id, a local folder or a file, and no address"
    yield "task.path", task.path, bool(task.path) and "://" not in task.path, sources
    yield "task.max_length", task.max_length, task.max_length >= 4, "a whole number of at least 4"
    for name in ("train_size", "validation_size", "test_size"):
        value = getattr(task, name)
        yield f"task.{name}", value, value is None or value >= 1, "a whole number of at least 1, or null"
    yield "task.split_seed", task.split_seed, 0 <= task.split_seed < 2**32, "a whole number from 0 to 4294967295"
    metrics, writes = METRICS[task.kind], task.kind in TEXT_KINDS
    also = "; what task.generate adds, such as bleu, is measured on test only" if writes else ""
    yield "task.metric", task.metric, task.metric in metrics, f"for {task.kind}: {', '.join(metrics)}{also}"
    if writes:
        for name in ("prompt", "completion"):
            value = getattr(task, name)
            yield f"task.{name}", value, bool(value), f"a template such as '{{text}}' for a {task.kind} task"
    yield "task.generate", task.generate, writes or not task.generate, f"false for {task.kind}, which writes no text"
    yield "task.image", task.image, task.image is None or not writes, f"null for {task.kind}"
    single = task.image is None or task.text_pair is None
    yield "task.text_pair", task.text_pair, single, "null for a task of pictures (task.image)"
    for name, least in (("beams", 1), ("max_new_tokens", 1), ("no_repeat_ngram", 0)):
        value = getattr(task, name)
        yield f"task.{name}", value, value >= least, f"a whole number of at least {least}"
    yield "task.length_penalty", task.length_penalty, _finite(task.length_penalty), "a number"


def _finite(value: float) -> bool:
    return math.isfinite(value)
