"""Run one pack from wherever it stands to its records."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from src.errors import InterruptedRunError, counted
from src.experiment.artifacts import disk_bytes, save_generations, save_lane
from src.experiment.display.steps import forget_step
from src.experiment.environment import peak_memory, reset_peak_memory
from src.experiment.observer import Member, PackObserver
from src.experiment.outcome import describe_lane, summarise
from src.experiment.packing.plan import common_step
from src.experiment.packing.slots import Slots
from src.experiment.resolve import Cell
from src.experiment.session import Session
from src.models.adapted import AdaptedModel
from src.models.score import Result
from src.records import Status, keep_rows, remove_folder, write_record
from src.spec import slug
from src.training import Lane, train_pack
from src.training.checkpoint import find_steps, keep_only, load_lane, save_lanes
from src.training.data_order import steps_per_epoch, total_steps
from src.training.evaluate import evaluate_lanes, write_completions
from src.training.loop import goes_on, takes_part

logger = logging.getLogger(__name__)


def run_pack(slots: Slots, session: Session, until: int | None = None) -> None:
    """Train a pack, and the waiting cells that take places in it which become free; write a record for each.

    A cell that ends while others go on is tested, recorded and let go at once.

    Args:
        slots: with the cells to begin with; afterwards, or after an exception, with those that have not left.
        until: a step at which lanes that are still running pause: their checkpoints stay, and their records say
            ``interrupted``.

    Raises:
        InterruptedRunError: a stop was requested; checkpoints, and records that say so, were written.
        Exception: anything that the code of one lane raised; the cells that are left have no record then.
    """
    run = PackRun(slots, session)
    try:
        run.train(until)
    finally:
        run.close()


class PackRun:
    """One pack at work: its model, lanes and trackers.

    Args:
        slots: cells that share base model, data and loop.
        session: what all packs of the study share.
    """

    def __init__(self, slots: Slots, session: Session) -> None:
        self.slots, self.session, self.spec = slots, session, slots.cells[0].spec
        self.base, self.data = session.resources.base(self.spec), session.resources.data(self.spec)
        reset_peak_memory(session.resources.device)
        setups = [cell.setup for cell in slots.cells]
        self.model = AdaptedModel(self.base, setups, num_labels=self.data.num_labels, pad_id=self.data.pad_id)
        self.context = {
            "dtype": str(session.resources.dtype(self.spec.trainer.dtype)),
            "device": session.resources.device.type,
            "data": str(self.data.report.get("sha256")),
        }
        self.members: dict[int, Member] = {}
        self.pack_size = len(slots.cells)

    def train(self, until: int | None) -> None:
        """Train from the newest checkpoints to the end or the pause, test what ends, and write everything."""
        saved_at = self._restore(until)
        self.observer = PackObserver(
            self.model, self.members, self.session, context=self.context, saved_at=saved_at or None
        )
        try:
            if any(goes_on(member.lane, until) for member in self.members.values()):
                self._refill(until)
            lanes = [member.lane for member in self.members.values()]
            train_pack(self.model, self.data, lanes, self.observer, until, refill=lambda: self._refill(until))
            self._let_go(until)
        except InterruptedRunError:
            for member in self.members.values():
                self._write_record(member, "interrupted", None)
            raise

    def close(self) -> None:
        """Give the base back, and end the trackers that no record has ended."""
        self.model.detach()
        self.session.progress.finish_pack()
        for member in self.members.values():
            member.tracker.finish("failed", {})

    def _restore(self, until: int | None) -> int:
        """Lanes at the start, or as they were in the newest checkpoint that all of them have.

        Returns:
            The step of that checkpoint, or 0.
        """
        cells = self.slots.cells
        step = common_step(tuple(cells), self.session.paths)
        lanes = [self._make_lane(index, cell, step) for index, cell in enumerate(cells)]
        for cell, lane in zip(cells, lanes, strict=True):
            self._enter(cell, lane)
        first = self._align()
        if first:
            logger.info("Continuing %s from step %d", counted(len(cells), "cell"), first)
        per_epoch = steps_per_epoch(self.data, self.spec.trainer)
        labels = [slug(cell.spec) for cell in cells]
        self.session.progress.start_pack(labels, self._last_step(until), per_epoch, first)
        return step

    def _make_lane(self, index: int, cell: Cell, step: int) -> Lane:
        """A lane at its start, or as it was in the checkpoint of a step; with 0, in its own newest, if it has any."""
        parameters, folder = self.model.parameters(index), self.session.run_paths(cell).checkpoints
        steps = total_steps(self.data, cell.spec.trainer) if parameters else 0
        lane = Lane(index, cell.run_id, cell.spec, parameters, steps)
        if step := step or max(find_steps(folder), default=0):
            load_lane(self.model, lane, folder, step, self.context)
        return lane

    def _enter(self, cell: Cell, lane: Lane) -> None:
        paths = self.session.run_paths(cell)
        keep_rows(paths.metrics, lane.step)
        self.members[lane.index] = Member(cell, lane, paths, self.session.start_tracker(cell, lane.step))

    def _align(self) -> int:
        """Give all lanes that run one count of the pack's steps, no less than any has been filed under."""
        clock = max(member.lane.clock for member in self.members.values())
        for member in self.members.values():
            if member.lane.status == "running":
                member.lane.offset = clock - member.lane.step
        return clock

    def _last_step(self, until: int | None) -> int:
        """The pack's step at which the last of its present lanes is done."""
        lanes = [member.lane for member in self.members.values()]
        return max(lane.offset + min(lane.total_steps, until or lane.total_steps) for lane in lanes)

    def _refill(self, until: int | None) -> list[Lane]:
        """Let go who is done, and let in who waits, unless all are about to stop."""
        self._let_go(until)
        new = []
        for cell in [] if self.session.stop.is_set() else self.slots.fill():
            lane = self._make_lane(self.model.add(cell.setup), cell, 0)
            self._enter(cell, lane)
            self._align()
            self.session.progress.join(slug(cell.spec), self._last_step(until))
            new.append(lane)
        self.pack_size = max(self.pack_size, len(self.members))
        return new

    def _let_go(self, until: int | None) -> None:
        """Test what ended, write everything of what ended or pauses, and free its places."""
        some_go_on = any(goes_on(member.lane, until) for member in self.members.values())
        stays = takes_part if some_go_on else goes_on
        done = [member for member in self.members.values() if not stays(member.lane, until)]
        if not done:
            return
        # Every lane's end is on disk before it is tested, so that a crash or stop from here on costs no training.
        self.observer.checkpoint()
        tested = self._test([member.lane for member in done if member.lane.status != "running"])
        for index, result in tested.items():
            save_lane(self.model, index, self.members[index].paths, result.examples)
            save_generations(self.members[index].paths, result.generations)
        for member in done:
            if member.lane.status == "running":
                # Filed under its own step, where those who pause there can go on in other company.
                member.lane.offset = 0
                save_lanes(self.model, [member.lane], [member.paths.checkpoints], self.context)
            self._write_record(member, _status(member.lane), tested.get(member.lane.index))
            if member.lane.status == "running":
                keep_only(member.paths.checkpoints, member.lane.step)
            else:
                remove_folder(member.paths.checkpoints)
                forget_step(member.paths.progress)
            del self.members[member.lane.index]
            self.slots.leave(member.cell)
            self.model.remove(member.lane.index)

    def _test(self, lanes: Sequence[Lane]) -> dict[int, Result]:
        """Put lanes that have stopped to their best state and test them; by lane index.

        The rows of those that diverged go along, as in training (src/training/loop.py), and count for nothing.
        """
        stopped = [lane for lane in lanes if lane.status == "stopped"]
        if not stopped:
            return {}
        for lane in stopped:
            self.model.load_state(lane.index, lane.best_state)
        every = zip(lanes, evaluate_lanes(self.model, self.data.test, self.data, lanes), strict=True)
        results = [result for lane, result in every if lane.status == "stopped"]
        if self.spec.task.generate:
            results = write_completions(
                self.model,
                self.data,
                stopped,
                results,
                tokenizer=self.session.resources.tokenizer(self.spec),
                stop_requested=self.session.stop.is_set,
            )
        return {lane.index: result for lane, result in zip(stopped, results, strict=True)}

    def _write_record(self, member: Member, status: Status, test: Result | None) -> None:
        record = describe_lane(
            member.cell,
            member.lane,
            test,
            status=status,
            pack_size=self.pack_size,
            num_head=sum(parameter.numel() for parameter in self.model.heads[member.lane.index].values()),
            num_base=self.base.num_parameters,
            memory={
                "peak_bytes": peak_memory(self.session.resources.device),
                **disk_bytes(member.paths, saved=test is not None),
            },
            env=self.session.environment(member.cell),
            data=self.data.report,
            tracking=self.session.tracking_of(member.tracker),
        )
        write_record(record, member.paths.record)
        member.tracker.finish(record.status, summarise(record))
        if status != "interrupted" or self.session.stop.is_set():
            self.session.report_cell(record)


def _status(lane: Lane) -> Status:
    match lane.status:
        case "running":
            return "interrupted"
        case "diverged":
            return "diverged"
        case _:
            return "completed"
