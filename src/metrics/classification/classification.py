"""An `evaluate` module that wraps scikit-learn, so that no script is fetched from a hub.

evaluate copies this file and imports the copy, so it stands alone.
"""

from __future__ import annotations

import math
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
        return self.score(predictions, references, num_labels)

    def score(self, predictions: Any, references: Any, num_labels: int) -> dict[str, float | None]:
        """What `compute` gives, without the table that it keeps its inputs in: a sweep scores thousands of times.

        All four follow from one confusion matrix; scikit-learn's own functions would each count it anew.
        """
        labels = range(max(2, num_labels, max(*references, *predictions) + 1))
        counts = sklearn.metrics.confusion_matrix(references, predictions, labels=labels)
        right, true, said = counts.diagonal(), counts.sum(axis=1), counts.sum(axis=0)
        seen = true + said > 0
        f1 = 2.0 * right[seen] / (true + said)[seen]
        return {
            "accuracy": float(right.sum() / counts.sum()),
            "f1": float(f1[-1]) if num_labels == 2 and seen[1] else None,
            "macro_f1": float(f1.mean()),
            "matthews": _matthews(int(right.sum()), true.tolist(), said.tolist()),
        }


def _matthews(right: int, true: list[int], said: list[int]) -> float | None:
    """Gorodkin 2004, Comparing two K-category assignments by a K-category correlation coefficient.

    scikit-learn's convention is 0 for constant predictions; with a single true class there is no correlation.
    """
    n = sum(true)
    spread = (n * n - sum(t * t for t in true)) * (n * n - sum(s * s for s in said))
    if max(true) == n:
        return None
    both = n * right - sum(t * s for t, s in zip(true, said, strict=True))
    return both / math.sqrt(spread) if spread else 0.0
