"""AdaptedModel: the frozen base with each lane's adapters and head; from batches to logits, lane by lane."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Generator, Tensor, nn

from src.adapters.attach import attach, detach, detach_lane
from src.adapters.lora_linear import LoraLinear, Roster
from src.adapters.lowrank import LowRank
from src.adapters.start import FrozenWeights, make_adapters
from src.data import Batch
from src.models.feed import Feed
from src.models.frozen_states import FrozenStates
from src.models.hardware import master_dtype
from src.models.heads import Head, make_head
from src.models.loading import Base
from src.models.methods.make import make_method
from src.models.methods.method import Method, Unchanged, with_weights
from src.models.outputs import LaneOutput, classify, next_tokens
from src.models.recompute import Recomputation
from src.models.setup import LaneSetup
from src.spec.seeds import derive_seed


class AdaptedModel:
    """A pack's model. Lanes are numbered as in `setups`, and on by `add`; those in `lanes` take part in `forward`.

    The base is changed in place: its adapted modules are wrapped until `detach`.

    Args:
        base: weights in the precision to compute in.
        setups: one for each lane; all of one model and task.
        num_labels: classes; 1 for regression, 0 for causal_lm and seq2seq.
        pad_id: token that fills rows up where lanes' batches differ in length.
    """

    def __init__(self, base: Base, setups: Sequence[LaneSetup], *, num_labels: int, pad_id: int) -> None:
        self.base, self.pad_id, self.num_labels = base, pad_id, num_labels
        weight = next(base.model.parameters())
        self.device, self._dtype = weight.device, master_dtype(weight.dtype)
        self.setups: list[LaneSetup] = []
        self.adapters: list[dict[str, LowRank]] = []
        self.heads: list[Head] = []
        self.roster, self.layers = Roster(), list[LoraLinear]()
        _check_company(setups)
        # Made before adapters are attached, while the base is as it was loaded.
        first = setups[0]
        self.method: Method = make_method(base, first.spec, first.allocation, dtype=self._dtype) or Unchanged()
        try:
            self._take_in(setups)
        except BaseException:
            detach(base.backbone)
            raise
        self.roster.lanes = tuple(range(len(self.setups)))
        self.method.attach()
        self._recomputation = Recomputation(base, self.roster, first.spec.trainer)
        self._recomputation.attach()
        self.feed = Feed(base, first.spec, pad_id)
        self._frozen = FrozenStates(base, self.roster, first.spec, self.feed, pad_id)
        self._stand_ins: dict[str, Tensor] | None = None
        self.merged = False

    def add(self, setup: LaneSetup) -> int:
        """One more lane, beside those that train; it takes part from the next `retain` on that names it.

        Returns:
            Its number.

        Raises:
            ValueError: its method, or a matrix of it, must train alone.
        """
        _check_company([self.setups[0], setup])
        self._take_in([setup])
        return len(self.setups) - 1

    def remove(self, lane: int) -> None:
        """Forget what a lane trains; its number is not given again."""
        detach_lane(self.base.backbone, lane)
        self.layers = [layer for layer in self.layers if layer.adapters]
        self.adapters[lane], self.heads[lane] = {}, {}
        del self.roster.generators[lane]
        self.roster.lanes = tuple(other for other in self.lanes if other != lane)

    def _take_in(self, setups: Sequence[LaneSetup]) -> None:
        weights, lane = FrozenWeights(self.base.backbone), len(self.setups)
        for number, setup in enumerate(setups, start=lane):
            seed, ranks, lora = setup.spec.seed, setup.allocation.ranks, setup.spec.lora
            self.adapters.append(make_adapters(setup.projections, ranks, lora, seed, weights, dtype=self._dtype))
            head = make_head(self.num_labels, self.base.hidden_size, seed, device=self.device, dtype=self._dtype)
            self.heads.append(head)
            self.roster.generators[number] = Generator(self.device).manual_seed(derive_seed(seed, "dropout"))
        self.setups += setups
        pairs = zip((s.projections for s in setups), self.adapters[lane:], strict=True)
        used = attach(self.base.backbone, list(pairs), self.roster, first=lane)
        self.layers += [layer for layer in used if layer not in self.layers]

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
            batches: one for each lane of `lanes`, in order, all with the same number of examples.
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
        layout = self.feed.lay_out(batches)
        self.roster.training = training
        self.roster.lengths = tuple(batch.length for batch in batches)
        self.roster.target_lengths = tuple(batch.target_length for batch in batches)
        self.roster.texts = len(batches[0].attention_mask)
        with self.roster.end_to_end(*self.feed.rows(batches, layout, training=training)):
            hidden = self._frozen.last_hidden_state(batches, self._lowest, layout, training=training)
            if hidden is None:
                with self.feed.attention(layout):
                    inputs = self.method.inputs(self.feed.inputs(batches, layout))
                    hidden = self.base.backbone(**inputs).last_hidden_state
        return self.feed.by_lane(hidden, batches, layout)

    @property
    def _lowest(self) -> int | None:
        """The lowest layer that a lane adapts, None where none adapts any."""
        present = (setup for setup, adapters in zip(self.setups, self.adapters, strict=True) if adapters)
        return min((p.layer for setup in present for p in setup.projections), default=None)

    def _outputs(self, batches: Sequence[Batch], *, training: bool) -> list[LaneOutput]:
        blocks = self._hidden(batches, training=training)
        if self.base.output is not None:
            return next_tokens(blocks, batches, self.base.output)
        parts = zip(self.lanes, blocks, batches, strict=True)
        pooling = self.setups[0].spec.model.pooling
        return [classify(self.heads[lane], block, batch, pooling) for lane, block, batch in parts]

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
        self._recomputation.detach()
        detach(self.base.backbone)
        self.merged = False


def _check_company(setups: Sequence[LaneSetup]) -> None:
    """Raises:
    ValueError: several lanes, of which one has a method, or a matrix, that must train alone.
    """
    names = {setup.spec.method.name for setup in setups}
    if len(setups) > 1 and names != {"lora"}:
        raise ValueError(f"only lanes of LoRA train together, not those of {', '.join(sorted(names))}")
    if len(setups) > 1 and any(p.shared_rows for setup in setups for p in setup.projections):
        raise ValueError("what meets rows of the whole batch (DeBERTa's q and k) is adapted by one lane alone")
