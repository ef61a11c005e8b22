"""Tiny random models of each architecture, made from their own configs: real code, no downloads."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import fields
from typing import Any

import torch
from transformers import (
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForSeq2SeqLM,
    BartConfig,
    BertConfig,
    GPT2Config,
    LlamaConfig,
    MistralConfig,
    PreTrainedConfig,
    PreTrainedModel,
    Qwen2Config,
    Qwen3Config,
    RobertaConfig,
    T5Config,
)

from src.data import TaskData, TokenSplit
from src.models.adapted import AdaptedModel
from src.models.loading import Base, freeze
from src.models.setup import LaneSetup, set_up
from src.spec import (
    TEXT_KINDS,
    LoraSpec,
    MethodSpec,
    ModelSpec,
    OptimSpec,
    RunSpec,
    TaskKind,
    TaskSpec,
    TrainerSpec,
    normalise,
    run_id,
)
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
_T5 = {
    "vocab_size": 100, "d_model": 16, "d_kv": 4, "d_ff": 24, "num_layers": 2, "num_decoder_layers": 3, "num_heads": 4,
    "pad_token_id": 1, "decoder_start_token_id": 1, "eos_token_id": 4,
}  # fmt: skip
# Encoder and decoder; t5_v1_1 has a gated MLP and leaves the decoder's output unscaled.
SEQ2SEQ: dict[str, PreTrainedConfig] = {
    "t5": T5Config(**_T5),
    "t5_v1_1": T5Config(**_T5, feed_forward_proj="gated-gelu", tie_word_embeddings=False),
    "bart": BartConfig(
        vocab_size=100, d_model=16, encoder_layers=2, decoder_layers=2, encoder_attention_heads=4,
        decoder_attention_heads=4, encoder_ffn_dim=24, decoder_ffn_dim=24, max_position_embeddings=66, pad_token_id=1,
        bos_token_id=2, eos_token_id=4, decoder_start_token_id=4, forced_eos_token_id=None,
    ),
}  # fmt: skip


def tiny(model_type: str, *, causal_lm: bool = False, seq2seq: bool = False, seed: int = 0) -> PreTrainedModel:
    """A random model in float64, in evaluation mode."""
    torch.manual_seed(seed)
    auto = AutoModelForCausalLM if causal_lm else AutoModelForSeq2SeqLM if seq2seq else AutoModel
    model = auto.from_config({**CONFIGS, **SEQ2SEQ}[model_type]).double().eval()
    if hasattr(model, "final_logits_bias"):  # BART's, which is zero until it is trained
        model.final_logits_bias.normal_()
    return model


def token_ids(rows: int, length: int, seed: int = 0) -> torch.Tensor:
    """rows x length ids that are no special tokens."""
    return torch.randint(5, 100, (rows, length), generator=torch.Generator().manual_seed(seed))


def tiny_base(model_type: str, kind: TaskKind = "classification", dtype: torch.dtype = torch.float64) -> Base:
    """A frozen tiny model."""
    model = tiny(model_type, causal_lm=kind == "causal_lm", seq2seq=kind == "seq2seq")
    return freeze(model.to(dtype), kind, "tiny")


def tiny_data(kind: TaskKind = "classification", *, train: int = 70, rest: int = 20) -> TaskData:
    """Sequences of 4 to 12 random tokens; the label follows from the first token, so it can be learnt."""
    templates = {"prompt": "{text}", "completion": "{label}"} if kind in TEXT_KINDS else {}
    task = TaskSpec(
        "tiny",
        kind,
        **templates,
        max_length=32,
        metric={"classification": "accuracy", "regression": "mse"}.get(kind, "loss"),
    )
    splits = [_split(kind, size, seed) for seed, size in enumerate((train, rest, rest))]
    num_labels = {"classification": 3, "regression": 1}.get(kind, 0)
    return TaskData(task, *splits, label_names=None, num_labels=num_labels, pad_id=1, report={})


def _split(kind: TaskKind, size: int, seed: int) -> TokenSplit:
    generator = torch.Generator().manual_seed(1000 + seed)
    lengths = torch.randint(4, 13, (size,), generator=generator)
    offsets = torch.cat([torch.zeros(1, dtype=torch.int64), lengths.cumsum(0)])
    ids = torch.randint(5, 100, (int(offsets[-1]),), generator=generator).int()
    first = ids[offsets[:-1]].long()
    labels = {"classification": first % 3, "regression": (first % 7).float()}.get(kind)
    starts = lengths - 2 if kind == "causal_lm" else None
    split = TokenSplit(ids, offsets, labels=labels, completion_starts=starts, pair_starts=None)
    return _with_targets(split, generator) if kind == "seq2seq" else split


def _with_targets(split: TokenSplit, generator: torch.Generator) -> TokenSplit:
    """2 to 7 tokens for each example, of which the first is that of the input and the last is eos."""
    lengths = torch.randint(2, 8, (len(split),), generator=generator)
    offsets = torch.cat([torch.zeros(1, dtype=torch.int64), lengths.cumsum(0)])
    ids = torch.randint(5, 100, (int(offsets[-1]),), generator=generator).int()
    ids[offsets[:-1]] = split.input_ids[split.offsets[:-1]]
    ids[offsets[1:] - 1] = 4
    return dataclasses.replace(split, target_ids=ids, target_offsets=offsets)


def tiny_cell(data: TaskData, base: Base, **changes: Any) -> LaneSetup:
    """A cell on tiny data; `changes` are fields of LoraSpec, OptimSpec or TrainerSpec, seed, and method."""
    lora = {"targets": "qv", "rank": 2, "budget": None, "alpha": 8.0}
    optim, trainer = {"lr": 1e-2, "head_lr": 1e-2}, {"epochs": 2, "batch_size": 8, "dtype": "float64"}
    seed, method = changes.pop("seed", 0), changes.pop("method", MethodSpec())
    for name, value in changes.items():
        owner = lora if name in _FIELDS[LoraSpec] else optim if name in _FIELDS[OptimSpec] else trainer
        owner[name] = value
    model = ModelSpec("tiny")
    groups = LoraSpec(**lora), OptimSpec(**optim), TrainerSpec(**trainer)
    spec = normalise(RunSpec(model, data.spec, *groups, seed, method))
    return set_up(spec, base)


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
