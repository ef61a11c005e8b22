"""An `evaluate` module that wraps scikit-learn, so that no script is fetched from a hub.

evaluate copies this file and imports the copy, so it stands alone.
"""

from __future__ import annotations

from typing import Any

import datasets
import evaluate
import sklearn.metrics


class Classification(evaluate.Metric):
    """accuracy, f1 (of class 1, binary tasks only), macro_f1 and matthews."""

    def _info(self) -> evaluate.MetricInfo:
        features = {"predictions": datasets.Value("int64"), "references": datasets.Value("int64")}
        return evaluate.MetricInfo(
            description="Accuracy, F1 and Matthews' correlation of class ids.",
            citation="Pedregosa et al., Scikit-learn: Machine Learning in Python, JMLR 12, 2011.",
            inputs_description="predictions, references: class ids [n]; num_labels: number of classes of the task.",
            features=datasets.Features(features),
        )

    def _compute(self, predictions: Any, references: Any, num_labels: int) -> dict[str, float | None]:
        positives = 1 in references or 1 in predictions
        f1 = sklearn.metrics.f1_score(references, predictions) if num_labels == 2 and positives else None
        # scikit-learn's convention is 0 for constant predictions; with a single true class there is no correlation.
        varied = len(set(references)) > 1
        matthews = sklearn.metrics.matthews_corrcoef(references, predictions) if varied else None
        return {
            "accuracy": float(sklearn.metrics.accuracy_score(references, predictions)),
            "f1": None if f1 is None else float(f1),
            "macro_f1": float(sklearn.metrics.f1_score(references, predictions, average="macro", zero_division=0)),
            "matthews": None if matthews is None else float(matthews),
        }
