"""AdaptedModel: the frozen base with each lane's adapters and head; from batches to logits, lane by lane."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional as F

from src.adapters.attach import attach, detach
from src.adapters.lora_linear import LoraLinear, Roster
from src.adapters.lowrank import LowRank
from src.adapters.start import FrozenWeights, make_adapters
from src.data import IGNORED, Batch
from src.models.hardware import master_dtype
from src.models.heads import Head, make_head, pool
from src.models.loading import Base
from src.models.methods.make import make_method
from src.models.methods.method import Method, Unchanged, with_weights
from src.models.setup import LaneSetup
from src.spec.seeds import derive_seed


@dataclass(frozen=True)
class LaneOutput:
    """What one lane predicts for its batch, in float32 or better.

    Attributes:
        logits: m x C; for causal_lm and seq2seq m counts the predicted tokens of all rows, C is the vocabulary.
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
        num_labels: classes; 1 for regression, 0 for causal_lm and seq2seq.
        pad_id: token that fills rows up where lanes' batches differ in length.
    """

    def __init__(self, base: Base, setups: Sequence[LaneSetup], *, num_labels: int, pad_id: int) -> None:
        self.base, self.setups, self.pad_id = base, tuple(setups), pad_id
        weight = next(base.model.parameters())
        self.device, dtype = weight.device, master_dtype(weight.dtype)
        self.method = self._make_method(dtype)
        weights = FrozenWeights(base.backbone)
        self.adapters: list[dict[str, LowRank]] = []
        self.heads: list[Head] = []
        generators: dict[int, Generator] = {}
        for lane, setup in enumerate(self.setups):
            seed, ranks = setup.spec.seed, setup.allocation.ranks
            self.adapters.append(make_adapters(setup.projections, ranks, setup.spec.lora, seed, weights, dtype=dtype))
            self.heads.append(make_head(num_labels, base.hidden_size, seed, device=self.device, dtype=dtype))
            generators[lane] = Generator(self.device).manual_seed(derive_seed(seed, "dropout"))
        self.roster = Roster(lanes=tuple(range(len(self.setups))), generators=generators)
        pairs = zip((s.projections for s in self.setups), self.adapters, strict=True)
        self.layers = attach(base.backbone, list(pairs), self.roster)
        self.method.attach()
        self._stand_ins: dict[str, Tensor] | None = None
        self.merged = False

    def _make_method(self, dtype: torch.dtype) -> Method:
        """What a lane has besides LoRA adapters; made before these are attached, while the base is as it was loaded.

        Raises:
            ValueError: several lanes, of which one has a method that must train alone.
        """
        names = {setup.spec.method.name for setup in self.setups}
        if len(self.setups) > 1 and names != {"lora"}:
            raise ValueError(f"only lanes of LoRA train together, not those of {', '.join(sorted(names))}")
        if len(self.setups) > 1 and any(p.shared_rows for setup in self.setups for p in setup.projections):
            raise ValueError("what meets rows of the whole batch (DeBERTa's q and k) is adapted by one lane alone")
        first = self.setups[0]
        return make_method(self.base, first.spec, first.allocation, dtype=dtype) or Unchanged()

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
        if training or self._stand_ins is None:
            # What stands in while scoring is the same from batch to batch.
            self._stand_ins = self.method.weights()
        outputs = with_weights(self.base.model, self._stand_ins, lambda: self._outputs(batches, training=training))
        if training:
            self._stand_ins = None
        return outputs

    def hidden(self, batches: Sequence[Batch]) -> list[Tensor]:
        """Last hidden states of each participating lane, without dropout: b x L x d, or of a decoder b x T x d."""
        return with_weights(self.base.model, self.method.weights(), lambda: self._hidden(batches, training=False))

    def _hidden(self, batches: Sequence[Batch], *, training: bool) -> list[Tensor]:
        inputs = self._stack(batches)
        self.roster.training = training
        self.roster.lengths = tuple(batch.length for batch in batches)
        self.roster.target_lengths = tuple(batch.target_length for batch in batches)
        self.roster.texts = len(batches[0].attention_mask)
        hidden: Tensor = self.base.backbone(**self.method.inputs(inputs)).last_hidden_state
        return list(hidden.unflatten(0, (len(batches), -1)).unbind(0))

    def _outputs(self, batches: Sequence[Batch], *, training: bool) -> list[LaneOutput]:
        blocks = self._hidden(batches, training=training)
        if self.base.output is not None:
            return self._next_tokens(blocks, batches, self.base.output)
        return [
            self._classify(lane, block, batch) for lane, block, batch in zip(self.lanes, blocks, batches, strict=True)
        ]

    def parameters(self, lane: int) -> dict[str, nn.Parameter]:
        """Everything that a lane trains, by name: ``<projection>.A``, ``<projection>.B``, ``head.weight`` ..."""
        return {**self.adapter_parameters(lane), **self.method.parameters(), **self.heads[lane]}

    def adapter_parameters(self, lane: int) -> dict[str, nn.Parameter]:
        """The LoRA adapters' part of `parameters`; with DoRA ``<projection>.m`` as well."""
        named = {}
        for key, adapter in self.adapters[lane].items():
            named[f"{key}.A"], named[f"{key}.B"] = adapter.a, adapter.b
            if adapter.magnitude is not None:
                named[f"{key}.m"] = adapter.magnitude
        return named

    def frozen_weight(self, module: str) -> Tensor:
        """W0 of an adapted module, d_out x d_in.

        Raises:
            RuntimeError: while merged, as W0 has changed then.
        """
        layer = self.base.backbone.get_submodule(module)
        assert isinstance(layer, LoraLinear)
        if self.merged:
            raise RuntimeError("a merged model has no W0; call unmerge() first")
        return layer.weight

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
        self._stand_ins = None

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
        self.method.detach()
        detach(self.base.backbone)
        self.merged = False

    def _stack(self, batches: Sequence[Batch]) -> dict[str, Tensor]:
        """The backbone's inputs: row blocks one under the other, padded to the longest, (lanes * b) x L."""
        pictures = [b.pixel_values for b in batches if b.pixel_values is not None]
        if pictures:
            return {"pixel_values": torch.cat(pictures).to(self.device, next(self.base.model.parameters()).dtype)}
        length = max(batch.length for batch in batches)
        inputs = {
            "input_ids": _pile([b.input_ids for b in batches if b.input_ids is not None], length, self.pad_id),
            "attention_mask": _pile([b.attention_mask for b in batches], length, 0),
        }
        types = [b.token_type_ids for b in batches if b.token_type_ids is not None]
        if types:
            inputs["token_type_ids"] = _pile(types, length, 0)
        if batches[0].decodes:
            model: Any = self.base.model
            targets = _pile([b.labels for b in batches], max(b.target_length for b in batches), IGNORED)
            inputs["decoder_input_ids"] = model.prepare_decoder_input_ids_from_labels(targets)
        return {name: tensor.to(self.device) for name, tensor in inputs.items()}

    def _classify(self, lane: int, hidden: Tensor, batch: Batch) -> LaneOutput:
        mask = F.pad(batch.attention_mask, (0, hidden.shape[1] - batch.length)).to(self.device)
        weight, bias = self.heads[lane]["head.weight"], self.heads[lane]["head.bias"]
        pooled = pool(hidden.to(weight.dtype), mask, self.setups[lane].spec.model.pooling)
        return LaneOutput(F.linear(pooled, weight, bias), batch.labels.to(self.device))

    def _next_tokens(self, blocks: Sequence[Tensor], batches: Sequence[Batch], output: nn.Module) -> list[LaneOutput]:
        """Logits only where a label asks for one: the vocabulary product is the dearest of all."""
        states, targets = [], []
        for block, batch in zip(blocks, batches, strict=True):
            labels = F.pad(batch.labels, (0, block.shape[1] - batch.labels.shape[1]), value=IGNORED).to(self.device)
            if not batch.decodes:  # what a decoder reads is shifted already
                labels = labels[:, 1:]
            wanted = labels != IGNORED
            states.append(block[:, : labels.shape[1]][wanted])
            targets.append(labels[wanted])
        logits = output(torch.cat(states)).split([len(t) for t in targets])
        return [LaneOutput(lane.to(master_dtype(lane.dtype)), t) for lane, t in zip(logits, targets, strict=True)]


def _pile(blocks: Sequence[Tensor], length: int, fill: int) -> Tensor:
    return torch.cat([F.pad(block, (0, length - block.shape[1]), value=fill) for block in blocks])
