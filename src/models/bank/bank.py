"""Many adapters over one frozen base: switch between them in place, or answer a batch in which each row has its own.

    bank = AdapterBank(base)
    bank.load("topics", Path("outputs/minilm-r52/runs/<run_id>/adapter"))
    bank.use("topics")                                  # from now on; nothing is copied
    bank.forward(inputs, ["topics", None, "mood"])      # three rows: two adapters and the base itself
    bank.merge("topics")                                # no extra product while one adapter answers all

That one base serves many tasks is what the adapters' size is for (Hu et al. 2021, section 1 and section 4.2).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from src.adapters.attach import replace_module
from src.adapters.lowrank import LowRank
from src.adapters.peft_import import from_peft, read_peft
from src.errors import HarnessError
from src.models.bank.fit import check_fit
from src.models.bank.head import TaskHead
from src.models.bank.linear import BankLinear, Names, Selection, pools_of
from src.models.loading import Base
from src.models.memory import held_bytes


class AdapterBank:
    """One frozen base and named adapters of mixed ranks, targets and scales, for use without training.

    The base is changed in place: its adapted modules are wrapped until `close`.

    Args:
        base: used by nobody else meanwhile.

    Attributes:
        merged: the adapter that is folded into the base, None while there is none.
        heads: by adapter, of those that have one.
    """

    def __init__(self, base: Base) -> None:
        self.base = base
        self.device = next(base.model.parameters()).device
        self.merged: str | None = None
        self.heads: dict[str, TaskHead] = {}
        self._selection = Selection()
        self._layers: dict[str, BankLinear] = {}
        # By adapter, whether it is on a matrix that also meets rows of the whole batch, which are nobody's own.
        self._names: dict[str, bool] = {}

    @property
    def names(self) -> tuple[str, ...]:
        """The adapters, in the order in which they came."""
        return tuple(self._names)

    @property
    def active(self) -> str | None:
        """The adapter that answers where a row names none of its own."""
        return self._selection.names[0]

    @torch.no_grad()
    def add(self, name: str, adapters: Mapping[str, LowRank], head: TaskHead | None = None) -> None:
        """Take over an adapter; its factors are kept in the base's precision.

        Args:
            adapters: by projection key.

        Raises:
            HarnessError: the name is taken, or a letter or shape does not fit the base; nothing is changed then.
            RuntimeError: while merged.
        """
        self._check_unmerged("add")
        if not name or name in self._names:
            raise HarnessError(f"An adapter named {name!r} cannot be added; {self._taken()}.")
        check_fit(name, adapters, head, self.base)
        projections = {p.key: p for p in self.base.projections}
        for key, adapter in adapters.items():
            self._layer(projections[key].module).add(name, projections[key], adapter)
        if head is not None:
            self.heads[name] = TaskHead(head.weight.to(self.device), head.bias.to(self.device), head.pooling)
        self._names[name] = any(projections[key].shared_rows for key in adapters)

    def load(self, name: str, folder: Path, head: TaskHead | None = None) -> tuple[str, ...]:
        """Add an adapter that a run or peft saved.

        Args:
            folder: with adapter_config.json and adapter_model.safetensors.

        Returns:
            Names of saved tensors that belong to no letter of the base and were left out, such as a classifier's.

        Raises:
            HarnessError: as `add`, or it cannot be read, or its kind is not known here.
        """
        loaded = from_peft(self.base.projections, read_peft(folder))
        self.add(name, loaded.adapters, head)
        return loaded.left_out

    def remove(self, name: str) -> None:
        """Forget an adapter; the base answers where it was the active one.

        Raises:
            HarnessError: no such name.
            RuntimeError: while merged.
        """
        self._check_unmerged("remove")
        self._check_names([name])
        for layer in self._layers.values():
            layer.remove(name)
        del self._names[name]
        self.heads.pop(name, None)
        if self.active == name:
            self.use(None)

    def use(self, name: str | None) -> None:
        """Let this adapter, or None for the base alone, answer from now on; nothing is computed or copied.

        Raises:
            HarnessError: no such name.
            RuntimeError: another than the merged one.
        """
        self._check_names([name])
        self._selection.names = (name,)

    @contextmanager
    def rows(self, names: Sequence[str | None]) -> Iterator[None]:
        """Within the block, row i of every batch has the adapter names[i]; also for ``base.model.generate``, with as
        many prompts as names.

        Raises:
            HarnessError: no such name, or names that differ where `why_unmixed` says why they cannot.
            RuntimeError: another than the merged one.
        """
        self._check_names(names)
        if reason := self.why_unmixed(names):
            raise HarnessError(f"{reason} Give all rows of a batch the same name.")
        # What is the same for all rows has to be looked up for none of them.
        own = tuple(names) if len(set(names)) > 1 else tuple(names[:1])
        before, self._selection.names = self._selection.names, own
        try:
            yield
        finally:
            self._selection.names = before

    def why_unmixed(self, names: Iterable[str | None]) -> str | None:
        """Why one batch cannot hold these adapters side by side (a sentence); None where it can."""
        own = dict.fromkeys(names)
        shared = [name for name in own if name is not None and self._names[name]]
        if len(own) < 2 or not shared:
            return None
        return (
            f"A batch cannot mix {shared[0]!r} with others: it adapts W_q or W_k of a model that sends one set of "
            "relative positions for the whole batch through them (DeBERTa's share_att_key)."
        )

    @torch.no_grad()
    def forward(self, inputs: Mapping[str, Any], names: Sequence[str | None] | None = None) -> list[Tensor]:
        """Each row's answer.

        Args:
            inputs: what the model takes, b rows in each tensor, padded on the right.
            names: the adapter of each row, None for the base; without names the active one answers all.

        Returns:
            For each row: logits L x V of a language model; else the head's logits C, or, where its adapter has no head,
            hidden states L x d.

        Raises:
            HarnessError: as `rows`, or not one name for each row.
            RuntimeError: another adapter than the merged one.
        """
        inputs = {key: value.to(self.device) if isinstance(value, Tensor) else value for key, value in inputs.items()}
        num_rows = len(next(value for value in inputs.values() if isinstance(value, Tensor)))
        own = tuple(names) if names is not None else (self.active,) * num_rows
        if len(own) != num_rows:
            raise HarnessError(f"The batch has {num_rows} rows and {len(own)} names; give one name, or None, for each.")
        with self.rows(own):
            if self.base.output is not None:
                return list(self.base.model(**inputs).logits.unbind(0))
            hidden = self.base.backbone(**inputs).last_hidden_state
        return self._answers(hidden, inputs.get("attention_mask"), own)

    def merge(self, name: str) -> None:
        """Fold an adapter into the base and make it the active one: its answers without an extra product.

        Meanwhile the base's modules are its own, unwrapped, so that ``base.model.save_pretrained`` saves plain weights.

        Raises:
            HarnessError: no such name.
            RuntimeError: merged already.
        """
        self._check_unmerged("merge")
        self.use(name)
        for module, layer in self._layers.items():
            layer.merge(name)
            replace_module(self.base.backbone, module, layer.base)
        self.merged = name

    def unmerge(self) -> None:
        """Undo `merge` bit for bit; the adapter stays the active one. Nothing happens where none is merged."""
        if self.merged is None:
            return
        for module, layer in self._layers.items():
            layer.unmerge()
            replace_module(self.base.backbone, module, layer)
        self.merged = None

    def close(self) -> None:
        """Give the base back as it was; the bank is empty then."""
        self.unmerge()
        for module, layer in self._layers.items():
            replace_module(self.base.backbone, module, layer.base)
        self._layers, self._names, self.heads = {}, {}, {}
        self._selection.names = (None,)

    def num_bytes(self) -> int:
        """Bytes of all adapters' and heads' tensors, as they lie in memory."""
        tensors = [t for p in pools_of(list(self._layers.values())) for t in (p.a, p.b, *p.gains.values())]
        tensors += [t for head in self.heads.values() for t in (head.weight, head.bias)]
        return held_bytes(tensors)

    def _layer(self, module: str) -> BankLinear:
        if module not in self._layers:
            self._layers[module] = BankLinear(self.base.backbone.get_submodule(module), self._selection)
            replace_module(self.base.backbone, module, self._layers[module])
        return self._layers[module]

    def _answers(self, hidden: Tensor, mask: Tensor | None, names: Names) -> list[Tensor]:
        """Through each distinct head once."""
        mask = torch.ones(hidden.shape[:2], dtype=torch.int64, device=self.device) if mask is None else mask
        answers = list(hidden.unbind(0))
        for name in Counter(names):
            if name in self.heads:
                places = [row for row, own in enumerate(names) if own == name]
                for row, logits in zip(places, self.heads[name](hidden[places], mask[places]), strict=True):
                    answers[row] = logits
        return answers

    def _check_names(self, names: Sequence[str | None]) -> None:
        unknown = [name for name in names if name is not None and name not in self._names]
        if unknown:
            raise HarnessError(f"There is no adapter {unknown[0]!r}; {self._taken()}.")
        if self.merged is not None and any(name != self.merged for name in names):
            raise RuntimeError(f"while merged the bank answers for {self.merged!r} alone; call unmerge() first")

    def _taken(self) -> str:
        return f"there are: {', '.join(self._names)}" if self._names else "there is none so far"

    def _check_unmerged(self, verb: str) -> None:
        if self.merged is not None:
            raise RuntimeError(f"cannot {verb} while {self.merged!r} is merged; call unmerge() first")
