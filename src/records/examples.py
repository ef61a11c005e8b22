"""What was said of each test example of a run: predictions.safetensors, read without torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError
from safetensors.numpy import load

from src.records.paths import RunPaths, StudyPaths
from src.records.record import RunRecord
from src.records.study import Skipped

COLUMNS = (("prediction", "target"), ("loss", "tokens"))


@dataclass(frozen=True)
class Examples:
    """Test examples in the split's order.

    Attributes:
        columns: float64 [n] by name: prediction and target (classification: class ids; regression: numbers), or loss
            (nats, summed over the example) and tokens (causal_lm, seq2seq).
    """

    columns: Mapping[str, npt.NDArray[np.float64]]

    def __len__(self) -> int:
        return len(next(iter(self.columns.values())))


def read_examples(run: RunPaths) -> Examples | Skipped:
    """The run's test examples, or why there are none; never an exception, as scores stand without them."""
    try:
        tensors = load(run.predictions.read_bytes())
    except OSError as error:
        return Skipped(run.predictions, error.strerror or str(error))
    except (SafetensorError, ValueError, LookupError, TypeError, AttributeError) as error:
        return Skipped(run.predictions, f"not a safetensors file of plain numbers ({error})")
    names = next((names for names in COLUMNS if all(name in tensors for name in names)), None)
    if names is None:
        return Skipped(run.predictions, f"it holds neither {' nor '.join(' and '.join(pair) for pair in COLUMNS)}")
    columns = {name: np.asarray(tensors[name], dtype=np.float64) for name in names}
    shapes = {column.shape for column in columns.values()}
    if len(shapes) > 1 or len(shape := shapes.pop()) != 1 or shape[0] == 0:
        return Skipped(run.predictions, f"{' and '.join(names)} are not two equally long lists")
    return Examples(columns)


@dataclass
class ExampleFiles:
    """Test examples of a study's runs, by record; called by `src.comparison.find`.

    Attributes:
        unread: why a run that was asked for has none, by run id.
    """

    paths: StudyPaths
    unread: dict[str, Skipped] = field(default_factory=dict)

    def __call__(self, record: RunRecord) -> Examples | None:
        examples = read_examples(self.paths.run(record.run_id))
        if isinstance(examples, Skipped):
            self.unread[record.run_id] = examples
            return None
        return examples

    @property
    def skipped(self) -> tuple[Skipped, ...]:
        """For a report's list of what was left out."""
        return tuple(self.unread[run_id] for run_id in sorted(self.unread))
