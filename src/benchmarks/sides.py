"""One training step of each side of a comparison: ours, a peer's adapters, and the frozen model alone.

All sides compute with the same frozen weights (modules are copied, weights are not), the same batch, head and loss.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from src.adapters.budget import Allocation
from src.benchmarks.copies import copy_base, stock_copy
from src.data import IGNORED, Batch
from src.models.adapted import AdaptedModel
from src.models.hardware import master_dtype
from src.models.heads import Head, make_head, pool
from src.models.loading import Base
from src.models.losses import loss_sum, num_targets
from src.models.setup import LaneSetup
from src.spec import RunSpec
from src.training import Lane

# So long a schedule that the rate stands still while a step is timed.
TOTAL_STEPS = 10**6
Factors = Mapping[str, Mapping[str, nn.Parameter]]


class Side(Protocol):
    """Something that trains, or at least runs forward and backward."""

    def loss(self) -> Tensor:
        """The forward pass up to the mean loss, summed over lanes."""

    def step(self) -> None:
        """All of one step."""


class Ours:
    """A pack as src/training/loop.py steps it, on one batch for each lane.

    Args:
        base: weights are shared, modules copied.
        setup: of all lanes; their seeds count up.
        batches: one for each lane.
    """

    def __init__(self, base: Base, setup: LaneSetup, batches: Sequence[Batch], num_labels: int, pad_id: int) -> None:
        seeds = [setup.spec.seed + lane for lane in range(len(batches))]
        setups = [dataclasses.replace(setup, spec=dataclasses.replace(setup.spec, seed=seed)) for seed in seeds]
        self.model = AdaptedModel(copy_base(base), setups, num_labels=num_labels, pad_id=pad_id)
        self.batches = batches
        self.lanes = [
            Lane(lane, f"lane-{lane}", own.spec, self.model.parameters(lane), TOTAL_STEPS)
            for lane, own in enumerate(setups)
        ]

    def losses(self) -> Tensor:
        """Mean loss of each lane."""
        kind = self.lanes[0].spec.task.kind
        outputs = self.model.forward(self.batches, training=True)
        pairs = zip(outputs, self.batches, strict=True)
        return torch.stack([loss_sum(kind, output) / max(1, num_targets(kind, batch)) for output, batch in pairs])

    def loss(self) -> Tensor:
        """Summed over lanes."""
        return self.losses().sum()

    def step(self) -> None:
        """Forward, backward, and of each lane clip and AdamW."""
        losses = self.losses()
        losses.sum().backward()
        for lane, loss in zip(self.lanes, losses.detach().double().tolist(), strict=True):
            lane.apply_step(loss)

    def factors(self) -> dict[str, dict[str, nn.Parameter]]:
        """A, B and with DoRA m of the first lane's adapters, by projection."""
        return {
            key: {"A": adapter.a, "B": adapter.b} | ({} if adapter.magnitude is None else {"m": adapter.magnitude})
            for key, adapter in self.model.adapters[0].items()
        }


class Natural:
    """Our steps on batches of texts as long as they are.

    Args:
        ours: on the first of the batches.
        end_to_end: False: padded to the longest text.
    """

    def __init__(self, ours: Ours, batches: Sequence[Batch], *, end_to_end: bool) -> None:
        self.ours, self.batches = ours, batches
        ours.model.feed.packs = ours.model.feed.packs and end_to_end

    def losses(self) -> list[Tensor]:
        """Of each batch, without a step between them."""
        return [self._on(batch).loss().detach() for batch in self.batches]

    def step(self) -> None:
        """One step on each batch."""
        for batch in self.batches:
            self._on(batch).step()

    def _on(self, batch: Batch) -> Ours:
        self.ours.batches = [batch]
        return self.ours


class Frozen(Ours):
    """Forward, and backward to the embeddings' output: what any method has to do that trains at the bottom."""

    def __init__(self, base: Base, setup: LaneSetup, batches: Sequence[Batch], num_labels: int, pad_id: int) -> None:
        nothing = dataclasses.replace(setup, projections=(), allocation=Allocation(rank=0, parameters=0))
        super().__init__(base, nothing, batches, num_labels, pad_id)
        _stop_gradients_at_embeddings(self.model.base.backbone, self.model.heads[0])

    def step(self) -> None:
        """Forward and backward."""
        self.loss().backward()


class Plain:
    """A backbone that transformers runs, with our head and loss.

    Args:
        base: a copy that belongs to this side alone; its weights are shared.
    """

    def __init__(self, base: Base, spec: RunSpec, batch: Batch, num_labels: int) -> None:
        weight = next(base.model.parameters())
        self.base, self.spec = base, spec
        self.head: Head = make_head(
            num_labels, base.hidden_size, spec.seed, device=weight.device, dtype=master_dtype(weight.dtype)
        )
        assert batch.input_ids is not None
        self.inputs = {"input_ids": batch.input_ids, "attention_mask": batch.attention_mask}
        self.inputs = {name: tensor.to(weight.device) for name, tensor in self.inputs.items()}
        self.labels = batch.labels.to(weight.device)

    def loss(self) -> Tensor:
        """The mean over rows, or over predicted tokens."""
        backbone: Any = self.base.backbone
        hidden: Tensor = backbone(**self.inputs).last_hidden_state
        if self.base.output is not None:
            wanted = self.labels[:, 1:] != IGNORED
            logits = self.base.output(hidden[:, :-1][wanted])
            return F.cross_entropy(logits.to(master_dtype(logits.dtype)), self.labels[:, 1:][wanted])
        weight, bias = self.head["head.weight"], self.head["head.bias"]
        pooled = pool(hidden.to(weight.dtype), self.inputs["attention_mask"], self.spec.model.pooling)
        logits = F.linear(pooled, weight, bias)
        if self.spec.task.kind == "regression":
            return F.mse_loss(logits.squeeze(-1), self.labels.to(logits.dtype))
        return F.cross_entropy(logits, self.labels)


class StockFrozen(Plain):
    """As `Frozen`, by transformers' own modules."""

    def __init__(self, base: Base, spec: RunSpec, batch: Batch, num_labels: int) -> None:
        super().__init__(stock_copy(base), spec, batch, num_labels)
        _stop_gradients_at_embeddings(self.base.backbone, self.head)

    def step(self) -> None:
        """Forward and backward."""
        self.loss().backward()


class Peer(Plain):
    """Another library's adapters: the same clip, and torch's fused AdamW without anything around it.

    Args:
        base: its modules were changed by the library.
        factors: A, B and with DoRA m by our names of the projections, as the library keeps them.
    """

    def __init__(self, base: Base, spec: RunSpec, batch: Batch, num_labels: int, factors: Factors) -> None:
        super().__init__(base, spec, batch, num_labels)
        self.factors = factors
        adapters = [parameter for own in factors.values() for parameter in own.values()]
        self.trained = [*adapters, *self.head.values()]
        optim = spec.optim
        rates = [optim.lr] * len(adapters) + [optim.head_lr] * len(self.head)
        self.optimizer = torch.optim.AdamW(
            [
                {"params": own, "lr": rate, "weight_decay": optim.weight_decay if matrices else 0.0}
                for matrices in (True, False)
                for rate in dict.fromkeys(rates)
                if (
                    own := [
                        p for p, r in zip(self.trained, rates, strict=True) if r == rate and (p.dim() > 1) == matrices
                    ]
                )
            ],
            betas=(optim.beta1, optim.beta2),
            eps=optim.eps,
            fused=True,
        )

    def step(self) -> None:
        """Forward, backward, clip, AdamW."""
        self.loss().backward()
        if self.spec.optim.clip is not None:
            torch.nn.utils.clip_grad_norm_(self.trained, self.spec.optim.clip)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)


def _stop_gradients_at_embeddings(backbone: Any, head: Head) -> None:
    """Let backward go from the loss down to what goes into the first layer, and to nothing else."""
    for parameter in head.values():
        parameter.requires_grad_(False)
    block = getattr(backbone, "embeddings", None)
    embeddings = block if isinstance(block, nn.Module) else backbone.get_input_embeddings()
    embeddings.register_forward_hook(lambda _module, _inputs, output: output.requires_grad_())
