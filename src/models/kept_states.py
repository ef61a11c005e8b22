"""Room for hidden states, by example: what src/models/frozen_states.py looks up."""

from __future__ import annotations

from dataclasses import dataclass, field
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from src.data import Split, evaluation_batches
from src.models.memory import free_bytes

GROUP = 32  # examples whose states are computed at once
SHARE = 0.25  # of the memory that is free, what all states of a base may take


class KeptStates:
    """Hidden states of one split at one depth, token after token without padding.

    Args:
        split: whose examples are counted as in its batches.
        like: hidden states of the model, ... x d, for width, precision and device.
        pack: number of the pack that asks.

    Attributes:
        groups: all examples, by length, in the parts in which their states are computed: int64 index tensors.
        group: int64 [n], each example's part.
        known: bool [n], whose states are there.
    """

    def __init__(self, split: Split, like: Tensor, pack: int) -> None:
        lengths = split.lengths
        self.split, self.pack = split, pack
        self.groups = evaluation_batches(split, GROUP)
        self.group = torch.empty(len(split), dtype=torch.int64)
        for number, members in enumerate(self.groups):
            self.group[members] = number
        self.known = torch.zeros(len(split), dtype=torch.bool)
        self._lengths, self._starts = lengths, lengths.cumsum(0) - lengths
        self._states = like.new_empty(int(lengths.sum()), like.shape[-1])

    @property
    def num_bytes(self) -> int:
        """Of all states, known or not."""
        return self._states.nbytes

    @property
    def num_written(self) -> int:
        """Bytes that the system counts as taken: on CPUs a page is taken when it is first written to."""
        width = self._states.shape[-1] * self._states.element_size()
        return self.num_bytes if self._states.is_cuda else int(self._lengths[self.known].sum()) * width

    def missing(self, rows: Tensor) -> list[Tensor]:
        """The groups of those examples at `rows` (int64 [b]) whose states are not there."""
        return [self.groups[number] for number in self.group[rows[~self.known[rows]]].unique().tolist()]

    def put(self, rows: Tensor, hidden: Tensor) -> None:
        """Keep the states of the examples at `rows`, b x L x d with padding on the right."""
        places, tokens = self._places(rows, hidden.shape[1])
        tokens = tokens.to(hidden.device)
        self._states[places.to(hidden.device)[tokens]] = hidden[tokens]
        self.known[rows] = True

    def look_up(self, rows: Tensor, length: int) -> Tensor:
        """The states of the examples at `rows`, b x L x d with L = `length`; padding has an example's first state."""
        places, _ = self._places(rows, length)
        return self._states[places.to(self._states.device)]

    def _places(self, rows: Tensor, length: int) -> tuple[Tensor, Tensor]:
        """Where each position's state lies, and whether it is a token's: both b x L."""
        positions = torch.arange(length)
        tokens = positions < self._lengths[rows][:, None]
        return self._starts[rows][:, None] + torch.where(tokens, positions, 0), tokens


@dataclass
class Shelf:
    """What is kept of one base.

    Attributes:
        agrees: by depth, whether the model came to the same with the states as without; absent before it was tried.
        tuples: whether its layers put out hidden states as the first of several.
        packs: how many asked.
    """

    agrees: dict[int, bool] = field(default_factory=dict)
    tuples: bool = False
    packs: int = 0
    _kept: dict[tuple[int, int], tuple[Split, KeptStates | None]] = field(default_factory=dict)

    def find(self, split: Split, depth: int, pack: int) -> tuple[bool, KeptStates | None]:
        """Whether room was asked for before, and what was given."""
        # The split is held, too, so that its identity stays its own.
        known = (id(split), depth) in self._kept
        _, kept = self._kept.get((id(split), depth), (split, None))
        if kept is not None:
            kept.pack = pack
        return known, kept

    def make_room(self, split: Split, depth: int, like: Tensor, pack: int) -> KeptStates | None:
        """Room for the states of a split; what only packs before this one asked for gives way if need be.

        Args:
            like: hidden states of the model, ... x d.

        Returns:
            None where they would take too large a share of the memory that is free.
        """
        size = int(split.lengths.sum()) * like.shape[-1] * like.element_size()
        most = SHARE * (free_bytes(like.device) + sum(kept.num_written for kept in self._all()))
        for key, (_, kept) in list(self._kept.items()):
            if kept is not None and kept.pack < pack and size + self._num_bytes() > most:
                del self._kept[key]
        room = KeptStates(split, like, pack) if size + self._num_bytes() <= most else None
        self._kept[id(split), depth] = split, room
        return room

    def _all(self) -> list[KeptStates]:
        return [kept for _, kept in self._kept.values() if kept is not None]

    def _num_bytes(self) -> int:
        return sum(kept.num_bytes for kept in self._all())


_SHELVES: WeakKeyDictionary[nn.Module, Shelf] = WeakKeyDictionary()


def shelf_of(model: nn.Module) -> Shelf:
    """The model's own, which goes when the model goes."""
    return _SHELVES.setdefault(model, Shelf())
