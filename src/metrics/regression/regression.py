"""An `evaluate` module that wraps SciPy and scikit-learn, so that no script is fetched from a hub.

evaluate copies this file and imports the copy, so it stands alone.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from typing import Any

import datasets
import evaluate
import scipy.stats
import sklearn.metrics


class Regression(evaluate.Metric):
    """pearson, spearman and mse; None where one is undefined."""

    def _info(self) -> evaluate.MetricInfo:
        features = {"predictions": datasets.Value("float64"), "references": datasets.Value("float64")}
        return evaluate.MetricInfo(
            description="Correlations and mean squared error.",
            citation="Virtanen et al., SciPy 1.0, Nature Methods 17, 2020.",
            inputs_description="predictions, references: numbers [n].",
            features=datasets.Features(features),
        )

    def _compute(self, predictions: Any, references: Any) -> dict[str, float | None]:
        return self.score(predictions, references)

    def score(self, predictions: Any, references: Any) -> dict[str, float | None]:
        """What `compute` gives, without the table that it keeps its inputs in."""
        if not all(map(math.isfinite, predictions)):
            return {"pearson": None, "spearman": None, "mse": None}
        return {
            "pearson": _correlation(scipy.stats.pearsonr, predictions, references),
            "spearman": _correlation(scipy.stats.spearmanr, predictions, references),
            "mse": float(sklearn.metrics.mean_squared_error(references, predictions)),
        }


def _correlation(of: Callable[[Any, Any], Any], predictions: Any, references: Any) -> float | None:
    if len(set(predictions)) < 2 or len(set(references)) < 2:
        return None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # nearly constant input: the value is NaN or still of use
        value = float(of(predictions, references).statistic)
    return value if math.isfinite(value) else None
