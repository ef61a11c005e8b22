"""Tiny random models of each architecture, made from their own configs: real code, no downloads."""

from __future__ import annotations

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

_ENCODER = {
    "vocab_size": 100, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 24,
    "max_position_embeddings": 66,
}  # fmt: skip
_DECODER = {**_ENCODER, "num_key_value_heads": 2}
CONFIGS: dict[str, PreTrainedConfig] = {
    "bert": BertConfig(**_ENCODER),
    "roberta": RobertaConfig(**_ENCODER),
    "gpt2": GPT2Config(vocab_size=100, n_embd=16, n_layer=2, n_head=4, n_positions=66),
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
