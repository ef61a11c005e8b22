"""From specs to cells that are known to fit their model: every cell is checked before any starts."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from src.errors import BadCellsError, ConfigError
from src.models.generate import check_generation
from src.models.loading import outline
from src.models.preprocessing import check_inputs
from src.models.setup import LaneSetup, set_up
from src.spec import RunSpec, run_id, slug


@dataclass(frozen=True)
class Cell:
    """A run to do.

    Attributes:
        run_id: identity of the resolved spec.
        setup: spec with letters in place of words, projections and rank.
        alone: whether it must not train beside others, because its process was killed once.
    """

    run_id: str
    setup: LaneSetup
    alone: bool = False

    @property
    def spec(self) -> RunSpec:
        """The resolved spec."""
        return self.setup.spec


def resolve_cells(specs: Sequence[RunSpec], cache_dir: Path) -> list[Cell]:
    """Resolve every spec against its model's real shapes.

    Raises:
        ConfigError: the only cell does not fit its model.
        BadCellsError: names each cell that does not fit, the key, the value and what is allowed.
    """
    cells: list[Cell] = []
    problems: list[tuple[str, ConfigError]] = []
    known: dict[Any, LaneSetup | ConfigError] = {}
    for spec in specs:
        # Grids vary learning rates and seeds most, which sizes do not depend on.
        sizing = (spec.model, spec.task, spec.method, spec.lora)
        if sizing not in known:
            known[sizing] = _try_set_up(spec, cache_dir)
        found = known[sizing]
        if isinstance(found, LaneSetup):
            setup = dataclasses.replace(found, spec=dataclasses.replace(spec, lora=found.spec.lora))
            cells.append(Cell(run_id(setup.spec), setup))
        elif len(specs) == 1:
            raise found
        else:
            problems.append((slug(spec), found))
    if problems:
        raise BadCellsError(problems, len(specs))
    return cells


def resolve_cell(spec: RunSpec, cache_dir: Path) -> Cell:
    """Raises:
    ConfigError: targets, layers, rank, size, budget, length or kind of inputs do not fit the model.
    """
    (cell,) = resolve_cells([spec], cache_dir)
    return cell


def _try_set_up(spec: RunSpec, cache_dir: Path) -> LaneSetup | ConfigError:
    try:
        base = outline(spec.model, spec.task.kind, cache_dir)
        check_inputs(base, spec.model, spec.task)
        check_generation(base, spec.task)
        return set_up(spec, base)
    except ConfigError as error:
        return error
