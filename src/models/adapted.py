"""AdaptedModel: the frozen base with each lane's adapters and head; from batches to logits, lane by lane."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional as F

from src.adapters.attach import attach, detach, make_adapters
from src.adapters.budget import Allocation
from src.adapters.lora_linear import Roster
from src.adapters.lowrank import LowRank
from src.adapters.projections import Projection
from src.data import IGNORED, Batch
from src.models.hardware import master_dtype
from src.models.heads import Head, make_head, pool
from src.models.loading import Base
from src.spec import RunSpec
from src.spec.seeds import derive_seed


@dataclass(frozen=True)
class LaneSetup:
    """A cell whose sizes have been worked out against its model."""

    spec: RunSpec
    projections: tuple[Projection, ...]
    allocation: Allocation


@dataclass(frozen=True)
class LaneOutput:
    """What one lane predicts for its batch, in float32 or better.

    Attributes:
        logits: m x C; for causal_lm m counts the predicted tokens of all rows, C is the vocabulary.
        targets: m.
    """

    logits: Tensor
    targets: Tensor


class AdaptedModel:
    """A pack's model. Lanes are numbered as in `setups`; those in `lanes` take part in `forward`.

    The base is changed in place: its adapted modules are wrapped until `detach`.

    Args:
        base: weights in the precision to compute in.
        setups: one for each lane; all of one model and task.
        num_labels: classes; 1 for regression, 0 for causal_lm.
        pad_id: token that fills rows up where lanes' batches differ in length.
    """

    def __init__(self, base: Base, setups: Sequence[LaneSetup], *, num_labels: int, pad_id: int) -> None:
        self.base, self.setups, self.pad_id = base, tuple(setups), pad_id
        weight = next(base.model.parameters())
        self.device, dtype = weight.device, master_dtype(weight.dtype)
        self.adapters: list[dict[str, LowRank]] = []
        self.heads: list[Head] = []
        generators: dict[int, Generator] = {}
        for lane, setup in enumerate(self.setups):
            seed = setup.spec.seed
            self.adapters.append(
                make_adapters(
                    setup.projections, setup.spec.lora, setup.allocation.rank, seed, device=self.device, dtype=dtype
                )
            )
            self.heads.append(make_head(num_labels, base.hidden_size, seed, device=self.device, dtype=dtype))
            generators[lane] = Generator(self.device).manual_seed(derive_seed(seed, "dropout"))
        self.roster = Roster(lanes=tuple(range(len(self.setups))), generators=generators)
        pairs = zip((s.projections for s in self.setups), self.adapters, strict=True)
        self.layers = attach(base.backbone, list(pairs), self.roster)
        self.merged = False

    @property
    def lanes(self) -> tuple[int, ...]:
        """Lanes that take part, in the order of their row blocks."""
        return self.roster.lanes

    def retain(self, lanes: Sequence[int]) -> None:
        """Let only these lanes take part from now on.

        Raises:
            RuntimeError: others than before while merged.
        """
        if self.merged and tuple(lanes) != self.lanes:
            raise RuntimeError("a merged model answers for one lane only; call unmerge() first")
        self.roster.lanes = tuple(lanes)

    def forward(self, batches: Sequence[Batch], *, training: bool) -> list[LaneOutput]:
        """Logits of each participating lane.

        Args:
            batches: one for each lane of `lanes`, in order, all with the same number of rows.
            training: whether adapter dropout applies.

        Raises:
            RuntimeError: training while merged.
        """
        if training and self.merged:
            raise RuntimeError("a merged model cannot be trained; call unmerge() first")
        inputs = self._stack(batches)
        self.roster.training = training
        self.roster.lengths = tuple(batch.length for batch in batches)
        hidden = self.base.backbone(**inputs).last_hidden_state
        blocks = hidden.unflatten(0, (len(batches), -1)).unbind(0)
        masks = inputs["attention_mask"].unflatten(0, (len(batches), -1)).unbind(0)
        if self.base.output is not None:
            return self._next_tokens(blocks, batches, self.base.output)
        return [
            self._classify(lane, block, mask, batch)
            for lane, block, mask, batch in zip(self.lanes, blocks, masks, batches, strict=True)
        ]

    def parameters(self, lane: int) -> dict[str, nn.Parameter]:
        """Everything that a lane trains, by name: ``<projection>.A``, ``<projection>.B``, ``head.weight`` ..."""
        return {**self.adapter_parameters(lane), **self.heads[lane]}

    def adapter_parameters(self, lane: int) -> dict[str, nn.Parameter]:
        """The adapters' part of `parameters`."""
        named = {}
        for key, adapter in self.adapters[lane].items():
            named[f"{key}.A"], named[f"{key}.B"] = adapter.a, adapter.b
        return named

    def state(self, lane: int) -> dict[str, Tensor]:
        """A copy of a lane's trained values, on the CPU."""
        return {name: p.detach().to("cpu", copy=True) for name, p in self.parameters(lane).items()}

    @torch.no_grad()
    def load_state(self, lane: int, state: Mapping[str, Tensor]) -> None:
        """Inverse of `state`.

        Raises:
            ValueError: names or shapes differ; nothing is changed then.
        """
        parameters = self.parameters(lane)
        if parameters.keys() != state.keys():
            raise ValueError(f"state does not fit the lane: {sorted(parameters.keys() ^ state.keys())[:4]}")
        for name, parameter in parameters.items():
            if parameter.shape != state[name].shape:
                raise ValueError(f"{name} is {tuple(state[name].shape)}, not {tuple(parameter.shape)}")
        for name, parameter in parameters.items():
            parameter.copy_(state[name])

    def merge(self) -> None:
        """Fold the only participating lane's delta W into the base: same outputs, no extra product.

        Raises:
            RuntimeError: merged already, or not exactly one lane takes part.
        """
        if self.merged:
            raise RuntimeError("already merged")
        if len(self.lanes) != 1:
            raise RuntimeError(f"merge needs exactly one lane, {len(self.lanes)} take part; call retain([lane]) first")
        for layer in self.layers:
            layer.merge(self.lanes[0])
        self.merged = True

    def unmerge(self) -> None:
        """Undo `merge` bit for bit."""
        for layer in self.layers:
            layer.unmerge()
        self.merged = False

    def detach(self) -> None:
        """Give the base back as it was."""
        detach(self.base.backbone)
        self.merged = False

    def _stack(self, batches: Sequence[Batch]) -> dict[str, Tensor]:
        """The backbone's inputs: row blocks one under the other, padded to the longest, (lanes * b) x L."""
        length = max(batch.length for batch in batches)
        inputs = {
            "input_ids": _pile([b.input_ids for b in batches], length, self.pad_id),
            "attention_mask": _pile([b.attention_mask for b in batches], length, 0),
        }
        types = [b.token_type_ids for b in batches if b.token_type_ids is not None]
        if types:
            inputs["token_type_ids"] = _pile(types, length, 0)
        return {name: tensor.to(self.device) for name, tensor in inputs.items()}

    def _classify(self, lane: int, hidden: Tensor, mask: Tensor, batch: Batch) -> LaneOutput:
        weight, bias = self.heads[lane]["head.weight"], self.heads[lane]["head.bias"]
        pooled = pool(hidden.to(weight.dtype), mask, self.setups[lane].spec.model.pooling)
        return LaneOutput(F.linear(pooled, weight, bias), batch.labels.to(self.device))

    def _next_tokens(self, blocks: Sequence[Tensor], batches: Sequence[Batch], output: nn.Module) -> list[LaneOutput]:
        """Logits only where a label asks for one: the vocabulary product is the dearest of all."""
        states, targets = [], []
        for block, batch in zip(blocks, batches, strict=True):
            labels = F.pad(batch.labels, (0, block.shape[1] - batch.length), value=IGNORED).to(self.device)[:, 1:]
            wanted = labels != IGNORED
            states.append(block[:, :-1][wanted])
            targets.append(labels[wanted])
        logits = output(torch.cat(states)).split([len(t) for t in targets])
        return [LaneOutput(lane.to(master_dtype(lane.dtype)), t) for lane, t in zip(logits, targets, strict=True)]


def _pile(blocks: Sequence[Tensor], length: int, fill: int) -> Tensor:
    return torch.cat([F.pad(block, (0, length - block.shape[1]), value=fill) for block in blocks])
