"""From specs to cells that are known to fit their model: every cell is checked before any starts."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from src.adapters.budget import allocate
from src.adapters.projections import select_projections
from src.errors import BadCellsError, ConfigError
from src.models.adapted import LaneSetup
from src.models.loading import check_length, outline
from src.spec import RunSpec, expand_targets, run_id, slug


@dataclass(frozen=True)
class Cell:
    """A run to do.

    Attributes:
        run_id: identity of the resolved spec.
        setup: spec with letters in place of words, projections and rank.
    """

    run_id: str
    setup: LaneSetup

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
    for spec in specs:
        try:
            cells.append(resolve_cell(spec, cache_dir))
        except ConfigError as error:
            if len(specs) == 1:
                raise
            problems.append((slug(spec), error))
    if problems:
        raise BadCellsError(problems, len(specs))
    return cells


def resolve_cell(spec: RunSpec, cache_dir: Path) -> Cell:
    """Raises:
    ConfigError: targets, layers, rank, budget or length do not fit the model.
    """
    base = outline(spec.model, spec.task.kind, cache_dir)
    check_length(base, spec.task.max_length)
    letters = expand_targets(spec.lora.targets, {p.letter for p in base.projections})
    projections = select_projections(base.projections, letters, spec.lora.layers)
    allocation = allocate(spec.lora, [(p.d_in, p.d_out) for p in projections])
    resolved = dataclasses.replace(spec, lora=dataclasses.replace(spec.lora, targets=letters))
    return Cell(run_id(resolved), LaneSetup(resolved, projections, allocation))
