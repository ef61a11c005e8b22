"""What happens beside training: progress, tracking, checkpoints; nothing here changes a result."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from src.experiment.display.steps import StepFiles
from src.experiment.resolve import Cell
from src.experiment.session import Session
from src.models.adapted import AdaptedModel
from src.records import RunPaths, append_row
from src.spec import slug
from src.tracking import RunTracker
from src.training import Evaluation, Lane
from src.training.checkpoint import save_lanes


@dataclass(frozen=True)
class Member:
    """A cell while it trains in a pack."""

    cell: Cell
    lane: Lane
    paths: RunPaths
    tracker: RunTracker

    def log(self, metrics: Mapping[str, float | int | None], step: int) -> None:
        """Add a row to the run's own log, and mirror it.

        Raises:
            WriteError: the system refused to write.
        """
        append_row(self.paths.metrics, metrics, step)
        self.tracker.log(metrics, step)


class PackObserver:
    """The training loop's Observer for one pack.

    Args:
        members: by lane; who leaves the pack is taken out of it, who joins is put into it.
        context: what a checkpoint is only good for.
        saved_at: the pack's step of which all members have a checkpoint, None without one.
    """

    def __init__(
        self,
        model: AdaptedModel,
        members: Mapping[int, Member],
        session: Session,
        *,
        context: Mapping[str, str],
        saved_at: int | None,
    ) -> None:
        self.model, self.members, self.context, self.saved_at = model, members, context, saved_at
        self.progress, self.stop = session.progress, session.stop
        self.log_every = session.settings.tracking.log_every
        self.steps = StepFiles()

    def stepped(self, lanes: Sequence[Lane], losses: dict[int, float], norms: dict[int, float], tokens: int) -> None:
        """Move the bars, tell who watches, log training metrics every `log_every` steps."""
        self.progress.step(self.clock, tokens)
        self.steps.update((self.members[lane.index].paths.progress, lane.step, lane.total_steps) for lane in lanes)
        for lane in lanes:
            if lane.step % self.log_every == 0:
                metrics = {
                    "train/loss": losses[lane.index],
                    "train/grad_norm": norms[lane.index],
                    "train/lr": lane.last_lr,
                    "train/tokens": lane.tokens,
                    "train/tokens_per_s": lane.tokens / lane.train_seconds if lane.train_seconds else None,
                }
                self.members[lane.index].log(metrics, lane.step)

    def evaluated(self, lane: Lane, evaluation: Evaluation) -> None:
        """Show and log a validation."""
        self.progress.evaluation({slug(lane.spec): evaluation.validation[lane.spec.task.metric]}, evaluation.step)
        metrics = {f"validation/{name}": value for name, value in evaluation.validation.items()}
        self.members[lane.index].log(
            {"epoch": evaluation.epoch, "train/epoch_loss": evaluation.train_loss, **metrics}, evaluation.step
        )

    def checkpoint(self) -> None:
        """Save every lane of the pack, once at each of its steps.

        Who joined at a step that is saved is not added to it: it has done nothing yet, and a kill between two files
        would leave the others without a step that all have.
        """
        if self.clock != self.saved_at:
            members = self.members.values()
            folders = [member.paths.checkpoints for member in members]
            save_lanes(self.model, [member.lane for member in members], folders, self.context)
            self.saved_at = self.clock

    @property
    def clock(self) -> int:
        """Steps of the pack."""
        return max(member.lane.clock for member in self.members.values())

    def stop_requested(self) -> bool:
        """Whether SIGINT or SIGTERM came."""
        return self.stop.is_set()
