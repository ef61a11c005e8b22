"""Check all cells of a sweep, then run them study by study; a single run is a sweep of one cell."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from omegaconf import DictConfig

from src.config.convert import Values, resolved, to_settings, to_spec
from src.errors import BadCellsError, ConfigError, HarnessError, InterruptedRunError
from src.spec import RunSpec, Settings

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Cell:
    """One composed config.

    Attributes:
        name: the overrides that make it, as typed; empty for a single run.
        config: the part that is ours, without the node ``hydra``; or its plain values, interpolations resolved.
    """

    name: str
    config: DictConfig | Values


def run_cells(cells: Sequence[Cell], *, need_all: bool = True) -> list[float | None]:
    """Validation scores in the order of `cells`.

    Cells with equal settings form one study; a study that cannot run does not stop the next one.

    Args:
        need_all: False for a caller that can go on without the score of a cell that failed or diverged.

    Raises:
        ConfigError, BadCellsError: a cell is wrong; raised before anything starts.
        HarnessError: a cell or a study failed; raised after all others have finished.
        InterruptedRunError: at once.
    """
    checked = check_cells(cells)
    # Torch and transformers come with it: a wrong config should be told without waiting for them.
    from src.experiment.study import run_study  # noqa: PLC0415

    studies = _studies(checked)
    if len(studies) > 1:
        _check_models(checked, studies)
    scores: list[float | None] = [None] * len(cells)
    errors: list[HarnessError] = []
    for settings, indices in studies.items():
        try:
            outcome = run_study([checked[index][0] for index in indices], settings)
        except InterruptedRunError:
            raise
        except HarnessError as error:
            errors.append(error)
            continue
        for index, score in zip(indices, outcome.scores, strict=True):
            scores[index] = score
        if outcome.num_failed and need_all:
            errors.append(_failed_cells(outcome.num_failed, len(indices), settings))
    if errors:
        raise errors[0] if len(errors) == 1 else HarnessError("\n".join(map(str, errors)))
    return scores


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


def _studies(checked: Sequence[tuple[RunSpec, Settings]]) -> dict[Settings, list[int]]:
    studies: dict[Settings, list[int]] = {}
    for index, (_, settings) in enumerate(checked):
        studies.setdefault(settings, []).append(index)
    return studies


def _check_models(checked: Sequence[tuple[RunSpec, Settings]], studies: dict[Settings, list[int]]) -> None:
    """Check the cells of all studies against their models; by itself the second study would do so after the first ran.

    Raises:
        BadCellsError: cells do not fit their models.
    """
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
        return HarnessError(f"The run did not complete; the table above and its record under {where} say why.")
    return HarnessError(
        f"{num_failed} of {num_cells} cells of the study {settings.study} did not complete; the table above and their "
        f"records under {where} say why. The same command runs failed cells again and skips complete and diverged ones."
    )
