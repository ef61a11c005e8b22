"""Check all cells of a sweep, then run them study by study; a single run is a sweep of one cell."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from omegaconf import DictConfig

from src.config.convert import Values, resolved, to_settings, to_spec
from src.errors import BadCellsError, ConfigError, HarnessError, InterruptedRunError
from src.experiment.processes.isolation import NO_LOSSES, Losses, isolate
from src.records import StudyPaths
from src.spec import RunSpec, Settings

if TYPE_CHECKING:
    from src.cluster.launch import Ending

logger = logging.getLogger(__name__)
# Places of the cells of each study.
Studies = Mapping[Settings, Sequence[int]]


@dataclass(frozen=True)
class Cell:
    """One composed config.

    Attributes:
        name: the overrides that make it, as typed; empty for a single run.
        config: the part that is ours, without the node ``hydra``; or its plain values, interpolations resolved.
    """

    name: str
    config: DictConfig | Values


def run_cells(cells: Sequence[Cell], *, need_all: bool = True, isolated: bool = False) -> list[float | None]:
    """Validation scores in the order of `cells`.

    Cells with equal settings form one study; a study that cannot run does not stop the next one.

    Args:
        need_all: False for a caller that can go on without the score of a cell that failed or diverged.
        isolated: whether the cells are trained in a child process, which alone comes back from here.

    Raises:
        ConfigError, BadCellsError: a cell is wrong; raised before anything starts.
        HarnessError: a cell or a study failed; raised after all others have finished.
        InterruptedRunError: at once.
    """
    checked = check_cells(cells)
    studies = studies_of(checked)
    losses = isolate([_paths(settings) for settings in studies]) if isolated else {}
    check_models(checked, studies)
    return gather(checked, studies, _run_in_turn(checked, studies, losses), need_all=need_all)


def run_cells_on_slurm(cells: Sequence[Cell], *, need_all: bool = True) -> list[float | None]:
    """As `run_cells`, but the cells train in tasks of a SLURM cluster; the keys under slurm say how.

    Returns:
        Validation scores, None where slurm.wait is false.

    Raises:
        ConfigError, BadCellsError, HarnessError: as run_cells.
        InterruptedRunError: the person left; the tasks go on.
    """
    checked = check_cells(cells)
    from src.cluster.launch import run_on_slurm  # noqa: PLC0415

    studies = studies_of(checked)
    check_models(checked, studies)
    endings = run_on_slurm({settings: specs_of(checked, indices) for settings, indices in studies.items()})
    return gather(checked, studies, endings, need_all=need_all)


def check_cells(cells: Sequence[Cell]) -> list[tuple[RunSpec, Settings]]:
    """Convert every cell, so that one message names all that is wrong.

    Raises:
        ConfigError: the only cell is wrong.
        BadCellsError: of several cells some are wrong.
    """
    checked, wrong = [], []
    for cell in cells:
        try:
            values = resolved(cell.config)
            spec = to_spec(values)
            checked.append((spec, to_settings(values, spec)))
        except ConfigError as error:
            if len(cells) == 1:
                raise
            wrong.append((cell.name, error))
    if wrong:
        raise BadCellsError(wrong, len(cells))
    return checked


def _run_in_turn(
    checked: Sequence[tuple[RunSpec, Settings]], studies: Studies, losses: Mapping[StudyPaths, Losses]
) -> Iterator[Ending]:
    """Run one study after the other, each when it is asked for."""
    # Torch and transformers come with it: a wrong config should be told without waiting for them.
    from src.experiment.study import run_study  # noqa: PLC0415

    for settings, indices in studies.items():
        try:
            yield run_study(specs_of(checked, indices), settings, losses.get(_paths(settings), NO_LOSSES))
        except InterruptedRunError:
            raise
        except HarnessError as error:
            yield error


def gather(
    checked: Sequence[tuple[RunSpec, Settings]], studies: Studies, endings: Iterable[Ending], *, need_all: bool
) -> list[float | None]:
    """Scores in the order of the cells.

    Raises:
        HarnessError: a cell or a study failed; after all have ended.
    """
    scores: list[float | None] = [None] * len(checked)
    errors: list[HarnessError] = []
    for (settings, indices), ending in zip(studies.items(), endings, strict=True):
        if isinstance(ending, HarnessError):
            errors.append(ending)
        elif ending is not None:
            for index, score in zip(indices, ending.scores, strict=True):
                scores[index] = score
            if ending.num_failed and need_all:
                errors.append(_failed_cells(ending.num_failed, len(indices), settings))
    if errors:
        raise errors[0] if len(errors) == 1 else HarnessError("\n".join(map(str, errors)))
    return scores


def specs_of(checked: Sequence[tuple[RunSpec, Settings]], indices: Sequence[int]) -> list[RunSpec]:
    """The specs at some places."""
    return [checked[index][0] for index in indices]


def _paths(settings: Settings) -> StudyPaths:
    return StudyPaths.of(settings.output_dir, settings.study)


def studies_of(checked: Sequence[tuple[RunSpec, Settings]]) -> dict[Settings, list[int]]:
    """Places of the cells of each study."""
    studies: dict[Settings, list[int]] = {}
    for index, (_, settings) in enumerate(checked):
        studies.setdefault(settings, []).append(index)
    return studies


def check_models(checked: Sequence[tuple[RunSpec, Settings]], studies: Studies) -> None:
    """Check the cells of several studies against their models; by itself the second would do so after the first ran.

    Raises:
        BadCellsError: cells do not fit their models.
    """
    if len(studies) < 2:
        return
    from src.experiment.resolve import resolve_cells  # noqa: PLC0415

    problems: list[tuple[str, ConfigError]] = []
    for settings, indices in studies.items():
        try:
            resolve_cells([checked[index][0] for index in indices], Path(settings.cache_dir))
        except ConfigError as error:
            problems.append((settings.study, error))
        except BadCellsError as error:
            problems += [(f"{settings.study}, {name}", problem) for name, problem in error.problems]
        except HarnessError as error:
            # No network, say: fails this study when its turn comes, and not the others.
            logger.debug("Study %s cannot be checked: %s", settings.study, error)
    if problems:
        raise BadCellsError(problems, len(checked))


def _failed_cells(num_failed: int, num_cells: int, settings: Settings) -> HarnessError:
    where = f"{settings.output_dir}/{settings.study}"
    if num_cells == 1:
        return HarnessError(f"The run did not complete; what is above, and its record under {where}, say why.")
    return HarnessError(
        f"{num_failed} of {num_cells} cells of the study {settings.study} did not complete; what is above, and their "
        f"records under {where}, say why. The same command runs failed cells again, and skips complete and diverged "
        "ones."
    )
