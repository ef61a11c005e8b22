"""Tables whose scores are drawn from a known truth: quality of a configuration + seed, plus noise of each run.

Validation and test of a run share part of its noise, as the same weights are scored twice.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from src.comparison import Cell, Table
from src.records import Metrics
from tests.record_factory import make_record, make_spec, one_table

LEARNING_RATES = (0.001, 0.003)


@dataclass(frozen=True)
class Truth:
    """A design, and how good each of its configurations really is.

    Attributes:
        quality: mean test score by (targets, rank); both learning rates are equally good.
        noise: standard deviation of a run around it, by configuration or for all.
        shared: part of the noise's variance that validation and test have in common.
    """

    quality: dict[tuple[str, int], float]
    num_seeds: int = 4
    noise: float | Sequence[float] = 0.005
    shared: float = 0.8
    metric: str = "accuracy"

    def skeleton(self) -> Table:
        """The table without scores that mean anything; building it takes far longer than filling it."""
        return one_table(
            *(
                make_record(make_spec(targets, rank, seed=seed, optim__lr=lr, task__metric=self.metric))
                for targets, rank in self.quality
                for lr in LEARNING_RATES
                for seed in range(self.num_seeds)
            )
        )

    def fill(self, skeleton: Table, rng: np.random.Generator) -> Table:
        """One study drawn from the truth."""
        index = {configuration: number for number, configuration in enumerate(self.quality)}
        shape = (len(index), len(LEARNING_RATES), self.num_seeds)
        scale = np.broadcast_to(self.noise, len(index))[:, None, None]
        common, of_validation, of_test = (rng.normal(size=shape) * scale for _ in range(3))
        level = np.array(list(self.quality.values()))[:, None, None] + 0.01 * rng.normal(size=self.num_seeds)
        own = (1 - self.shared) ** 0.5
        validation = level + self.shared**0.5 * common + own * of_validation
        test = level + self.shared**0.5 * common + own * of_test
        cells = []
        for cell in skeleton.ranked:
            lora = cell.spec.lora
            at = index[lora.targets, lora.rank or 0], LEARNING_RATES.index(cell.spec.optim.lr)
            cells.append(self._scored(cell, validation[at], test[at]))
        sign = 1 if skeleton.lower_is_better else -1
        return dataclasses.replace(skeleton, ranked=tuple(sorted(cells, key=lambda c: sign * (c.validation or 0))))

    def _scored(self, cell: Cell, validation: npt.NDArray[np.float64], test: npt.NDArray[np.float64]) -> Cell:
        records = [
            dataclasses.replace(record, metrics=Metrics({self.metric: float(v)}, {self.metric: float(t)}))
            for record, v, t in zip(cell.records, validation, test, strict=True)
        ]
        return Cell(cell.spec, tuple(records))
