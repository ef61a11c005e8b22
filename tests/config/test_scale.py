"""Ten thousand cells are planned as a few are: the right ones, each once, and in little memory."""

from __future__ import annotations

import random
import tracemalloc
from collections import Counter
from pathlib import Path

import pytest

from src.benchmarks.scale import NUM_COMBINATIONS, PACK_SIZE, axes, plan_scale
from src.config import to_settings, to_spec
from src.config.cells import check_cells
from src.config.compose import compose_config, compose_sweep
from src.experiment.packing.plan import plan_packs, share_key
from src.experiment.resolve import resolve_cell, resolve_cells
from src.records import StudyPaths
from tests.experiment.workplace import Workplace, build

NUM_CELLS, SEEDS = 10_000, 5
# 4 kinds of LoRA x 5 target sets x 5 budgets x 10 learning rates x seeds, and adapter layers, which have no targets.
UNIQUE = (4 * 5 + 1) * 5 * 10 * SEEDS
# A tenth of what 10,000 cells in 1 GB would leave for each.
MOST_BYTES = 10_000

pytestmark = pytest.mark.slow


def fixed(place: Workplace, root: Path) -> list[str]:
    """A tiny model, whose matrices are smaller than any budget of the grid allows."""
    return [f"model.path={place.model}", f"output_dir={root}", f"cache_dir={place.cache}"]


def test_ten_thousand_grid_points_become_packs(tmp_path: Path) -> None:
    place = build(tmp_path)
    overrides = fixed(place, tmp_path)
    composed = compose_sweep([*overrides, *axes(NUM_CELLS)])
    checked = check_cells(composed)
    cells = resolve_cells([spec for spec, _ in checked], place.cache)
    unique = list({cell.run_id: cell for cell in cells}.values())
    packs = plan_packs(unique, PACK_SIZE, StudyPaths.of(tmp_path, "tiny"))

    assert len(composed) == len(cells) == NUM_CELLS
    assert len({settings for _, settings in checked}) == 1
    assert len(unique) == UNIQUE
    assert Counter(cell.run_id for pack in packs for cell in pack) == Counter(cell.run_id for cell in unique)
    assert all(len({share_key(cell) for cell in pack}) == 1 and len(pack) <= PACK_SIZE for pack in packs)
    shared = [text for text in overrides if not text.startswith("model.path")]
    for index in random.Random(0).sample(range(NUM_CELLS), 8):
        config = compose_config([*shared, f"model.path={place.model}", *composed[index].name.split()])
        assert checked[index] == (to_spec(config), to_settings(config))
        assert cells[index] == resolve_cell(to_spec(config), place.cache)


def test_stages_are_timed_one_by_one_and_take_little_memory(tmp_path: Path) -> None:
    overrides = fixed(build(tmp_path), tmp_path)
    tracemalloc.start()
    try:
        seconds = plan_scale(NUM_COMBINATIONS, compose_sweep, check_cells, overrides)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert list(seconds) == ["compose", "check", "resolve", "plan"]
    assert min(seconds.values()) > 0
    assert peak / NUM_COMBINATIONS < MOST_BYTES
