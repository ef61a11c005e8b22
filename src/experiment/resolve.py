"""From specs to cells that are known to fit their model: every cell is checked before any starts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

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
    ConfigError: targets, layers, rank, size, budget, length or kind of inputs do not fit the model.
    """
    base = outline(spec.model, spec.task.kind, cache_dir)
    check_inputs(base, spec.model, spec.task)
    check_generation(base, spec.task)
    setup = set_up(spec, base)
    return Cell(run_id(setup.spec), setup)
