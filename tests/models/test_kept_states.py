"""Room for hidden states: what was put is what is found, and no more memory than may be taken."""

from __future__ import annotations

import pytest
import torch

from src.models import kept_states
from src.models.kept_states import GROUP, KeptStates, Shelf
from tests.tiny import tiny_data

WIDTH = 4
LIKE = torch.zeros(1, 1, WIDTH, dtype=torch.float64)


def states(rows: torch.Tensor, length: int) -> torch.Tensor:
    """b x L x d, in which example, position and unit can be read."""
    marks = rows[:, None, None] * 1000 + torch.arange(length)[:, None] * 10 + torch.arange(WIDTH)
    return marks.double()


def test_what_was_put_is_found_at_any_length() -> None:
    split = tiny_data().train
    kept = KeptStates(split, LIKE, 1)
    rows = torch.tensor([5, 0, 33])
    kept.put(rows, states(rows, int(split.lengths[rows].max())))
    again = torch.tensor([33, 5, 33, 0])
    found = kept.look_up(again, 15)
    expected = states(again, 15)
    for row, length in enumerate(split.lengths[again].tolist()):
        assert torch.equal(found[row, :length], expected[row, :length])
        assert torch.equal(found[row, length:], expected[row, :1].expand(15 - length, -1))


def test_groups_hold_each_example_once_and_go_when_known() -> None:
    split = tiny_data().train
    kept = KeptStates(split, LIKE, 1)
    assert torch.equal(torch.cat(kept.groups).sort().values, torch.arange(len(split)))
    assert max(map(len, kept.groups)) == GROUP
    missing = kept.missing(torch.arange(len(split)))
    assert [group.tolist() for group in missing] == [group.tolist() for group in kept.groups]
    kept.put(missing[0], torch.ones(len(missing[0]), 12, WIDTH, dtype=torch.float64))
    assert kept.missing(missing[0]) == [] and len(kept.missing(torch.arange(len(split)))) == len(kept.groups) - 1
    assert kept.num_bytes == split.num_tokens * WIDTH * 8
    assert kept.num_written == int(split.lengths[missing[0]].sum()) * WIDTH * 8


def test_an_earlier_packs_states_give_way_and_those_of_the_same_pack_do_not(monkeypatch: pytest.MonkeyPatch) -> None:
    data = tiny_data()
    size = data.train.num_tokens * WIDTH * 8
    monkeypatch.setattr(kept_states, "free_bytes", lambda _: int(1.1 * size / kept_states.SHARE))
    shelf = Shelf()
    first = shelf.make_room(data.train, 1, LIKE, 1)
    assert first is not None
    assert shelf.make_room(data.validation, 1, LIKE, 1) is None
    assert shelf.find(data.train, 1, 1) == (True, first) and shelf.find(data.validation, 1, 1) == (True, None)
    assert shelf.find(data.test, 1, 1) == (False, None)
    assert shelf.make_room(data.train, 2, LIKE, 2) is not None
    assert shelf.find(data.train, 1, 2) == (False, None)
