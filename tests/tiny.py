"""Tiny random models of each architecture, made from their own configs: real code, no downloads."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import fields
from typing import Any

import torch
from transformers import (
    AutoModel,
    AutoModelForCausalLM,
    BertConfig,
    GPT2Config,
    LlamaConfig,
    MistralConfig,
    PreTrainedConfig,
    PreTrainedModel,
    Qwen2Config,
    Qwen3Config,
    RobertaConfig,
)

from src.adapters.budget import allocate
from src.adapters.projections import select_projections
from src.data import TaskData, TokenSplit
from src.models.adapted import AdaptedModel, LaneSetup
from src.models.loading import Base, freeze
from src.spec import LoraSpec, ModelSpec, OptimSpec, RunSpec, TaskKind, TaskSpec, TrainerSpec, normalise, run_id
from src.training import Evaluation, Lane
from src.training.data_order import total_steps

_ENCODER = {
    "vocab_size": 100, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 24,
    "max_position_embeddings": 66,
}  # fmt: skip
_FIELDS = {spec: {f.name for f in fields(spec)} for spec in (LoraSpec, OptimSpec, TrainerSpec)}
_DECODER = {**_ENCODER, "num_key_value_heads": 2}
CONFIGS: dict[str, PreTrainedConfig] = {
    "bert": BertConfig(**_ENCODER),
    "roberta": RobertaConfig(**_ENCODER),
    "gpt2": GPT2Config(vocab_size=100, n_embd=16, n_layer=2, n_head=4, n_positions=66, bos_token_id=2, eos_token_id=4),
    "llama": LlamaConfig(**_DECODER),
    "mistral": MistralConfig(**_DECODER),
    "qwen2": Qwen2Config(**_DECODER),
    "qwen3": Qwen3Config(**_DECODER, head_dim=4),
}


def tiny(model_type: str, *, causal_lm: bool = False, seed: int = 0) -> PreTrainedModel:
    """A random model in float64, in evaluation mode."""
    torch.manual_seed(seed)
    auto = AutoModelForCausalLM if causal_lm else AutoModel
    return auto.from_config(CONFIGS[model_type]).double().eval()


def token_ids(rows: int, length: int, seed: int = 0) -> torch.Tensor:
    """rows x length ids that are no special tokens."""
    return torch.randint(5, 100, (rows, length), generator=torch.Generator().manual_seed(seed))


def tiny_base(model_type: str, kind: TaskKind = "classification", dtype: torch.dtype = torch.float64) -> Base:
    """A frozen tiny model."""
    return freeze(tiny(model_type, causal_lm=kind == "causal_lm").to(dtype), kind, "tiny")


def tiny_data(kind: TaskKind = "classification", *, train: int = 70, rest: int = 20) -> TaskData:
    """Sequences of 4 to 12 random tokens; the label follows from the first token, so it can be learnt."""
    templates = {"prompt": "{text}", "completion": "{label}"} if kind == "causal_lm" else {}
    task = TaskSpec(
        "tiny", kind, **templates, metric={"classification": "accuracy", "regression": "mse"}.get(kind, "loss")
    )
    splits = [_split(kind, size, seed) for seed, size in enumerate((train, rest, rest))]
    num_labels = {"classification": 3, "regression": 1, "causal_lm": 0}[kind]
    return TaskData(task, *splits, label_names=None, num_labels=num_labels, pad_id=1, report={})


def _split(kind: TaskKind, size: int, seed: int) -> TokenSplit:
    generator = torch.Generator().manual_seed(1000 + seed)
    lengths = torch.randint(4, 13, (size,), generator=generator)
    offsets = torch.cat([torch.zeros(1, dtype=torch.int64), lengths.cumsum(0)])
    ids = torch.randint(5, 100, (int(offsets[-1]),), generator=generator).int()
    first = ids[offsets[:-1]].long()
    labels = {"classification": first % 3, "regression": (first % 7).float()}.get(kind)
    starts = lengths - 2 if kind == "causal_lm" else None
    return TokenSplit(ids, offsets, labels=labels, completion_starts=starts, pair_starts=None)


def tiny_cell(data: TaskData, base: Base, **changes: Any) -> LaneSetup:
    """A cell on tiny data; `changes` are fields of LoraSpec, OptimSpec or TrainerSpec, and seed."""
    lora = {"targets": "qv", "rank": 2, "budget": None, "alpha": 8.0}
    optim, trainer = {"lr": 1e-2, "head_lr": 1e-2}, {"epochs": 2, "batch_size": 8, "dtype": "float64"}
    seed = changes.pop("seed", 0)
    for name, value in changes.items():
        owner = lora if name in _FIELDS[LoraSpec] else optim if name in _FIELDS[OptimSpec] else trainer
        owner[name] = value
    model = ModelSpec("tiny")
    spec = normalise(RunSpec(model, data.spec, LoraSpec(**lora), OptimSpec(**optim), TrainerSpec(**trainer), seed))
    projections = select_projections(base.projections, spec.lora.targets, spec.lora.layers)
    return LaneSetup(spec, projections, allocate(spec.lora, [(p.d_in, p.d_out) for p in projections]))


def start(base: Base, data: TaskData, setups: Sequence[LaneSetup]) -> tuple[AdaptedModel, list[Lane]]:
    """A pack before its first step."""
    model = AdaptedModel(base, setups, num_labels=data.num_labels, pad_id=data.pad_id)
    lanes = []
    for index, setup in enumerate(setups):
        parameters = model.parameters(index)
        steps = total_steps(data, setup.spec.trainer) if parameters else 0
        lanes.append(Lane(index, run_id(setup.spec), setup.spec, parameters, steps))
    return model, lanes


class Recorder:
    """An Observer that keeps what it is told, and can ask for a stop."""

    def __init__(self, stop_at: int | None = None, save: Callable[[], None] = lambda: None) -> None:
        self.losses: dict[int, list[float]] = {}
        self.steps, self.stop_at, self.save, self.saved_at = 0, stop_at, save, []

    def stepped(self, lanes: Sequence[Lane], losses: dict[int, float], norms: dict[int, float], tokens: int) -> None:
        self.steps += 1
        for index, loss in losses.items():
            self.losses.setdefault(index, []).append(loss)

    def evaluated(self, lane: Lane, evaluation: Evaluation) -> None:
        """Nothing to keep: lanes have their history."""

    def checkpoint(self) -> None:
        self.saved_at.append(self.steps)
        self.save()

    def stop_requested(self) -> bool:
        return self.steps == self.stop_at


@torch.no_grad()
def shake(model: AdaptedModel) -> None:
    """Give every lane's B (and head) random values, so that adapters do something."""
    for lane in range(len(model.setups)):
        generator = torch.Generator().manual_seed(100 + lane)
        for name, parameter in model.parameters(lane).items():
            if not name.endswith(".A"):
                parameter.normal_(0.0, 0.3, generator=generator)
