"""What happens beside training: progress, tracking, checkpoints; nothing here changes a result."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from pathlib import Path

from src.experiment.console import Progress
from src.models.adapted import AdaptedModel
from src.spec import slug
from src.tracking import RunTracker
from src.training import Evaluation, Lane
from src.training.checkpoint import save_lanes


class PackObserver:
    """The training loop's Observer for one pack.

    Args:
        lanes: all lanes of the pack, also those that have ended.
        folders: where each lane's checkpoints go.
        trackers: one for each lane.
        context: what a checkpoint is only good for.
    """

    def __init__(
        self,
        model: AdaptedModel,
        lanes: Sequence[Lane],
        *,
        folders: Sequence[Path],
        trackers: Sequence[RunTracker],
        progress: Progress,
        stop: threading.Event,
        log_every: int,
        context: Mapping[str, str],
    ) -> None:
        self.model, self.lanes, self.folders, self.trackers = model, lanes, folders, trackers
        self.progress, self.stop, self.log_every, self.context = progress, stop, log_every, context

    def stepped(self, lanes: Sequence[Lane], losses: dict[int, float], norms: dict[int, float], tokens: int) -> None:
        """Move the bars; mirror training metrics every `log_every` steps."""
        self.progress.step(max(lane.step for lane in self.lanes), tokens)
        for lane in lanes:
            if lane.step % self.log_every == 0:
                metrics = {
                    "train/loss": losses[lane.index],
                    "train/grad_norm": norms[lane.index],
                    "train/lr": lane.last_lr,
                    "train/tokens": lane.tokens,
                    "train/tokens_per_s": lane.tokens / lane.train_seconds if lane.train_seconds else None,
                }
                self.trackers[lane.index].log(metrics, lane.step)

    def evaluated(self, lane: Lane, evaluation: Evaluation) -> None:
        """Show and mirror a validation."""
        self.progress.evaluation({slug(lane.spec): evaluation.validation[lane.spec.task.metric]})
        metrics = {f"validation/{name}": value for name, value in evaluation.validation.items()}
        self.trackers[lane.index].log(
            {"epoch": evaluation.epoch, "train/epoch_loss": evaluation.train_loss, **metrics}, evaluation.step
        )

    def checkpoint(self) -> None:
        """Save every lane of the pack."""
        save_lanes(self.model, self.lanes, self.folders, self.context)

    def stop_requested(self) -> bool:
        """Whether SIGINT or SIGTERM came."""
        return self.stop.is_set()
