"""A backbone with pooling and a linear head, as a person would write it, and peft's LoRA around it."""

from __future__ import annotations

from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from torch import Tensor, nn
from torch.nn import functional as F

from src.benchmarks.peers.job import PeerCell


class PooledClassifier(nn.Module):
    """Logits from the mean over tokens (or the first, or the last).

    Attributes:
        num_tokens: that went through it in training, without padding.
    """

    def __init__(self, backbone: nn.Module, pooling: str, num_labels: int) -> None:
        super().__init__()
        self.backbone, self.pooling, self.num_tokens = backbone, pooling, 0
        config: Any = backbone.config
        self.head = nn.Linear(config.hidden_size, num_labels)
        nn.init.normal_(self.head.weight, 0.0, 0.02)
        nn.init.zeros_(self.head.bias)

    def forward(self, input_ids: Tensor, attention_mask: Tensor, labels: Tensor | None = None) -> dict[str, Tensor]:
        """Logits b x C, and with labels their mean cross entropy."""
        if self.training:
            self.num_tokens += int(attention_mask.sum())
        hidden = self.backbone(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        logits = self.classify(hidden, attention_mask)
        return {"logits": logits} if labels is None else {"loss": F.cross_entropy(logits, labels), "logits": logits}

    def classify(self, hidden: Tensor, mask: Tensor) -> Tensor:
        """From last hidden states to logits, in float32."""
        logits: Tensor = self.head(self._pool(hidden.float(), mask))
        return logits

    def _pool(self, hidden: Tensor, mask: Tensor) -> Tensor:
        match self.pooling:
            case "first":
                return hidden[:, 0]
            case "last":
                return hidden[torch.arange(len(hidden)), mask.sum(dim=1) - 1]
            case _:
                weights = mask.unsqueeze(-1).to(hidden.dtype)
                return (hidden * weights).sum(dim=1) / weights.sum(dim=1)


def with_lora(model: PooledClassifier, cell: PeerCell) -> Any:
    """peft's model: LoRA on the cell's modules, and the head trained beside it."""
    config = LoraConfig(
        r=cell.rank,
        lora_alpha=cell.alpha,  # type: ignore[arg-type]  # an int by its hint, used as a factor
        lora_dropout=cell.dropout,
        target_modules=[f"backbone.{name}" for name in cell.modules],
        modules_to_save=["head"],
    )
    return get_peft_model(model, config)
