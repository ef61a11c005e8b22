"""Scores of predictions."""

from src.metrics.compute import Scores, compute_metrics, language_metrics, text_metrics

__all__ = ["Scores", "compute_metrics", "language_metrics", "text_metrics"]
