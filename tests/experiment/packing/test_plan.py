"""Which cells train together: those that share base, data and loop; and those that were together before."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from src.experiment.packing.pack_table import Measured, PackTable
from src.experiment.packing.plan import FixedSize, Pack, PackSize, common_step, plan_packs, share_key
from src.experiment.resolve import Cell, resolve_cells
from src.records import StudyPaths
from tests.experiment.workplace import Workplace, build

RATES = (1e-4, 3e-4, 1e-3, 3e-3, 1e-2)
NOWHERE = StudyPaths.of("nowhere", "study")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Workplace:
    return build(tmp_path_factory.mktemp("place"))


@pytest.fixture(scope="module")
def many(place: Workplace) -> list[Cell]:
    """Eighteen cells: three sizes, two seeds, three loops or tasks."""
    loops: list[dict[str, int]] = [{}, {"batch_size": 4}, {"max_length": 12}]
    specs = [
        place.spec(targets, 2, seed=seed, **loop) for targets in ("q", "qv", "all") for seed in (0, 1) for loop in loops
    ]
    return resolve_cells(specs, place.cache)


def save_checkpoint(paths: StudyPaths, cell: Cell, step: int, roster: Sequence[Cell]) -> None:
    folder = paths.run(cell.run_id).checkpoints / f"step-{step:08d}"
    folder.mkdir(parents=True)
    (folder / "state.json").write_text(json.dumps({"roster": [member.run_id for member in roster]}))


def ids(packs: Sequence[Pack]) -> list[list[str]]:
    return [[cell.run_id for cell in pack] for pack in packs]


@given(data=st.data(), size=st.integers(1, 9))
def test_every_cell_is_in_one_pack_with_cells_it_can_share_with(
    many: list[Cell], data: st.DataObject, size: int
) -> None:
    cells = data.draw(st.lists(st.sampled_from(many), unique_by=lambda cell: cell.run_id))
    packs = plan_packs(cells, size, NOWHERE)
    planned = [cell.run_id for pack in packs for cell in pack]
    assert sorted(planned) == sorted(cell.run_id for cell in cells)
    for pack in packs:
        assert 1 <= len(pack) <= size
        assert len({share_key(cell) for cell in pack}) == 1
    groups = {share_key(cell) for cell in cells}
    sizes = [sum(share_key(cell) == key for cell in cells) for key in groups]
    assert len(packs) == sum(-(-count // size) for count in sizes)


def test_cells_of_one_seed_stand_side_by_side(many: list[Cell]) -> None:
    (pack, *_) = plan_packs(many, 8, NOWHERE)
    assert [cell.spec.seed for cell in pack] == [0, 0, 0, 1, 1, 1]
    assert [len({cell.spec.seed for cell in p}) for p in plan_packs(many, 3, NOWHERE)] == [1] * 6


def test_cells_are_ordered_by_lowest_layer_seed_matrices_and_rank(place: Workplace) -> None:
    shapes = [("v", 1), ("q", 8), ("q", 1), ("v", 1), ("q", 2)]
    specs = [
        place.spec(*shape, seed=seed, lr=lr) for lr, seed, shape in zip(RATES, (1, 0, 1, 0, 0), shapes, strict=True)
    ]
    specs += [place.spec("none"), place.spec("q", 4, layers="1-1")]
    (pack,) = plan_packs(resolve_cells(specs, place.cache), 8, NOWHERE)
    shown = [(cell.spec.lora.targets, cell.setup.allocation.rank, cell.spec.seed) for cell in pack]
    assert shown == [("q", 2, 0), ("q", 8, 0), ("v", 1, 0), ("q", 1, 1), ("v", 1, 1), ("q", 4, 0), ("none", 0, 0)]


def test_the_packs_of_a_group_are_of_nearly_equal_size(place: Workplace) -> None:
    cells = resolve_cells([place.spec(lr=1e-3 * (i + 1)) for i in range(9)], place.cache)
    assert [len(pack) for pack in plan_packs(cells, 8, NOWHERE)] == [5, 4]


@pytest.mark.parametrize(
    ("rates", "padding", "seeds"),
    [
        ((100, 200, 400), 0.05, [(0, 0, 1, 1)]),  # little padding
        ((100, 200, 210), 0.3, [(0, 0), (1, 1)]),  # two seconds' packs of 2 against one of 4 at 1.3 x 4 / 2.1
        ((100, 120, 400), 0.3, [(0, 0, 1, 1)]),  # padded, and still faster than packs of 2
        (None, 0.9, [(0, 0, 1, 1)]),  # nothing is known of their speed
    ],
)
def test_seeds_part_where_padding_costs_more_than_smaller_packs(
    place: Workplace, rates: tuple[float, ...] | None, padding: float, seeds: list[tuple[int, ...]]
) -> None:
    table = rates and PackTable(tuple(Measured(n, r, None) for n, r in zip((1, 2, 4), rates, strict=True)))

    class Sizes(FixedSize):
        def choose(self, cells: Sequence[Cell]) -> PackSize:
            return PackSize(4, table or None, lambda pack: padding if len({c.spec.seed for c in pack}) > 1 else 0.0)

    cells = resolve_cells([place.spec(seed=seed, lr=lr) for lr in RATES[:2] for seed in (0, 1)], place.cache)
    packs = plan_packs(cells, Sizes(4), NOWHERE)
    assert [tuple(cell.spec.seed for cell in pack) for pack in packs] == seeds


def test_cells_whose_matrices_meet_rows_of_the_whole_batch_train_alone(many: list[Cell]) -> None:
    shared = [
        dataclasses.replace(cell, setup=dataclasses.replace(cell.setup, projections=tuple(
            dataclasses.replace(p, shared_rows=p.letter == "v") for p in cell.setup.projections
        )))
        for cell in many[:12]
    ]  # fmt: skip
    packs = plan_packs(shared, 8, NOWHERE)
    alone = [cell for cell in shared if "v" in cell.spec.lora.targets]
    assert alone and all(len(pack) == 1 for pack in packs if pack[0] in alone)
    assert {len(pack) for pack in packs if pack[0] not in alone} == {2}


def test_what_only_shapes_a_lane_does_not_part_cells(place: Workplace) -> None:
    specs = [
        place.spec("q", 1), place.spec("all", 8, alpha=1.0), place.spec("none"), place.spec("o", None, budget=500),
        place.spec("q", 1, lr=0.5, schedule="cosine", clip=None, weight_decay=0.1), place.spec("q", 1, seed=7),
        place.spec("q", 1, dropout=0.5, init="gaussian", layers="0-0", label_smoothing=0.1),
    ]  # fmt: skip
    (pack,) = plan_packs(resolve_cells(specs, place.cache), 8, NOWHERE)
    assert len(pack) == len(specs)


@pytest.mark.parametrize(
    "change", [{"batch_size": 4}, {"accumulation": 2}, {"max_steps": 5}, {"eval_every": 2}, {"dtype": "float64"},
               {"patience": 1}, {"max_length": 20}, {"split_seed": 1}, {"train_size": 30}, {"metric": "loss"},
               {"checkpoint_every": 5}],
    ids=str,
)  # fmt: skip
def test_what_the_loop_or_the_data_share_parts_cells(place: Workplace, change: dict[str, object]) -> None:
    cells = resolve_cells([place.spec("q", 1), place.spec("q", 2, **change)], place.cache)
    assert len(plan_packs(cells, 8, NOWHERE)) == 2


def test_a_language_model_without_adapters_has_nothing_to_train_beside_others(tmp_path: Path) -> None:
    place = build(tmp_path, "gpt2", "causal_lm")
    cells = resolve_cells([place.spec("none"), place.spec("q"), place.spec("v")], place.cache)
    assert [len(pack) for pack in plan_packs(cells, 8, NOWHERE)] == [1, 2]


def test_cells_that_were_together_continue_together_in_their_order(many: list[Cell], tmp_path: Path) -> None:
    paths = StudyPaths.of(tmp_path, "study")
    group = [cell for cell in many if share_key(cell) == share_key(many[0])]
    first, second, fresh = group[3:1:-1], group[:2], group[4:]
    for roster, step in ((first, 4), (second, 8)):
        for cell in roster:
            save_checkpoint(paths, cell, step, roster)
    *resumed, last = plan_packs(group, 8, paths)
    assert sorted(ids(resumed)) == sorted(ids([tuple(first), tuple(second)]))
    assert sorted(common_step(pack, paths) for pack in resumed) == [4, 8]
    assert ids([last]) == ids([tuple(sorted(fresh, key=lambda cell: cell.spec.seed))])
    assert common_step(last, paths) == 0


def test_a_member_that_is_done_is_not_waited_for(many: list[Cell], tmp_path: Path) -> None:
    paths = StudyPaths.of(tmp_path, "study")
    group = [cell for cell in many if share_key(cell) == share_key(many[0])]
    for cell in group[:3]:
        save_checkpoint(paths, cell, 4, group[:3])
    (pack,) = plan_packs(group[1:3], 8, paths)
    assert ids([pack]) == ids([tuple(group[1:3])])
    assert common_step(pack, paths) == 4


def test_the_newest_checkpoint_that_all_have_counts(many: list[Cell], tmp_path: Path) -> None:
    """Killed while writing step 8: one lane has it, the other does not."""
    paths = StudyPaths.of(tmp_path, "study")
    pair = (many[0], many[3])
    for cell in pair:
        save_checkpoint(paths, cell, 4, pair)
    save_checkpoint(paths, pair[0], 8, pair)
    (pack,) = plan_packs(pair, 8, paths)
    assert ids([pack]) == ids([pair])
    assert common_step(pack, paths) == 4


def test_members_that_have_no_checkpoint_yet_belong_to_the_pack(many: list[Cell], tmp_path: Path) -> None:
    """Killed while writing its first checkpoints: all start again together, as nothing that all have is lost."""
    paths = StudyPaths.of(tmp_path, "study")
    group = [cell for cell in many if share_key(cell) == share_key(many[0])][:3]
    save_checkpoint(paths, group[1], 4, group)
    (pack,) = plan_packs(group, 8, paths)
    assert ids([pack]) == ids([tuple(group)])
    assert common_step(pack, paths) == 0


def test_a_smaller_pack_size_parts_what_was_together(many: list[Cell], tmp_path: Path) -> None:
    """As when the memory did not suffice."""
    paths = StudyPaths.of(tmp_path, "study")
    group = [cell for cell in many if share_key(cell) == share_key(many[0])]
    for cell in group:
        save_checkpoint(paths, cell, 4, group)
    packs = plan_packs(group, 4, paths)
    assert ids(packs) == ids([tuple(group[:4]), tuple(group[4:])])
    assert [common_step(pack, paths) for pack in packs] == [4, 4]


def test_a_cell_whose_roster_cannot_be_read_is_planned_all_the_same(many: list[Cell], tmp_path: Path) -> None:
    paths = StudyPaths.of(tmp_path, "study")
    group = [cell for cell in many if share_key(cell) == share_key(many[0])][:3]
    for cell in group:
        save_checkpoint(paths, cell, 4, group)
        (paths.run(cell.run_id).checkpoints / "step-00000004" / "state.json").write_text("{")
    assert sorted(ids(plan_packs(group, 8, paths))) == sorted([cell.run_id] for cell in group)
