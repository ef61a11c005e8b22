"""Run one pack from wherever it stands to its records."""

from __future__ import annotations

import logging
import shutil

from src.errors import InterruptedRunError
from src.experiment.artifacts import disk_bytes, save_generations, save_lane
from src.experiment.environment import peak_memory, reset_peak_memory
from src.experiment.observer import PackObserver
from src.experiment.outcome import describe_lane, summarise
from src.experiment.plan import Pack, common_step
from src.experiment.session import Session
from src.models.adapted import AdaptedModel
from src.models.score import Result
from src.records import RunRecord, Status, write_record
from src.spec import slug
from src.tracking import RunTracker
from src.training import Lane, train_pack
from src.training.checkpoint import load_lane
from src.training.data_order import steps_per_epoch, total_steps
from src.training.evaluate import evaluate_lanes, write_completions

logger = logging.getLogger(__name__)


def run_pack(pack: Pack, session: Session, until: int | None = None) -> list[RunRecord]:
    """Train a pack and write a record for each of its cells.

    Args:
        until: a step at which lanes that are still running pause: their checkpoints stay, and their records say
            ``interrupted``.

    Raises:
        InterruptedRunError: a stop was requested; checkpoints, and records that say so, were written.
        Exception: anything that the code of one lane raised; no record was written then.
    """
    run = PackRun(pack, session)
    try:
        return run.train(until)
    finally:
        run.close()


class PackRun:
    """One pack at work: its model, lanes and trackers, lane i being the pack's i-th cell.

    Args:
        pack: cells that share base model, data and loop.
        session: what all packs of the study share.
    """

    def __init__(self, pack: Pack, session: Session) -> None:
        self.pack, self.session = pack, session
        self.base, self.data = session.resources.base(pack[0].spec), session.resources.data(pack[0].spec)
        reset_peak_memory(session.resources.device)
        setups = [cell.setup for cell in pack]
        self.model = AdaptedModel(self.base, setups, num_labels=self.data.num_labels, pad_id=self.data.pad_id)
        self.context = {
            "dtype": str(session.resources.dtype(pack[0].spec.trainer.dtype)),
            "device": session.resources.device.type,
            "data": str(self.data.report.get("sha256")),
        }
        self.trackers: list[RunTracker] = []
        self.lanes: list[Lane] = []

    def train(self, until: int | None) -> list[RunRecord]:
        """Train from the newest common checkpoint to the end or the pause, test what ended, and write everything."""
        self._restore(until)
        self.trackers = [self.session.start_tracker(cell) for cell in self.pack]
        observer = PackObserver(
            self.model,
            self.lanes,
            folders=[self.session.run_paths(cell).checkpoints for cell in self.pack],
            trackers=self.trackers,
            progress=self.session.progress,
            stop=self.session.stop,
            log_every=self.session.settings.tracking.log_every,
            context=self.context,
        )
        try:
            train_pack(self.model, self.data, self.lanes, observer, until)
            # Every lane's end is on disk before it is tested, so that a crash or stop from here on costs no training.
            observer.checkpoint()
            tested = self._test()
        except InterruptedRunError:
            self._write_records({}, interrupted=True)
            raise
        records = self._write_records(tested)
        for cell, lane in zip(self.pack, self.lanes, strict=True):
            if lane.status != "running":
                shutil.rmtree(self.session.run_paths(cell).checkpoints, ignore_errors=True)
        return records

    def close(self) -> None:
        """Give the base back, and end the trackers that no record has ended."""
        self.model.detach()
        self.session.progress.finish_pack()
        for tracker in self.trackers:
            tracker.finish("failed", {})

    def _restore(self, until: int | None) -> None:
        """Lanes at the start, or as they were in the newest checkpoint that all of them have."""
        step = common_step(self.pack, self.session.paths)
        for index, cell in enumerate(self.pack):
            parameters = self.model.parameters(index)
            steps = total_steps(self.data, cell.spec.trainer) if parameters else 0
            self.lanes.append(Lane(index, cell.run_id, cell.spec, parameters, steps))
            if step:
                load_lane(self.model, self.lanes[index], self.session.run_paths(cell).checkpoints, step, self.context)
        if step:
            logger.info("Continuing %d cells from step %d", len(self.pack), step)
        labels = [slug(cell.spec) for cell in self.pack]
        per_epoch = steps_per_epoch(self.data, self.pack[0].spec.trainer)
        last = max(lane.total_steps for lane in self.lanes)
        self.session.progress.start_pack(labels, last if until is None else min(until, last), per_epoch, step)

    def _test(self) -> dict[int, Result]:
        """Put each lane that did not diverge to its best state and test it; by lane index."""
        whole = [lane for lane in self.lanes if lane.status == "stopped"]
        if not whole:
            return {}
        for lane in whole:
            self.model.load_state(lane.index, lane.best_state)
        results = evaluate_lanes(self.model, self.data.test, self.data, whole)
        if self.pack[0].spec.task.generate:
            results = write_completions(
                self.model,
                self.data,
                whole,
                results,
                tokenizer=self.session.resources.tokenizer(self.pack[0].spec),
                stop_requested=self.session.stop.is_set,
            )
        return {lane.index: result for lane, result in zip(whole, results, strict=True)}

    def _write_records(self, tested: dict[int, Result], *, interrupted: bool = False) -> list[RunRecord]:
        """What each lane leaves, and then, when nothing can go wrong any more, the records."""
        for index, result in tested.items():
            save_lane(self.model, index, self.session.run_paths(self.pack[index]), result.examples)
            save_generations(self.session.run_paths(self.pack[index]), result.generations)
        records = []
        for cell, lane, tracker in zip(self.pack, self.lanes, self.trackers, strict=True):
            record = describe_lane(
                cell,
                lane,
                tested.get(lane.index),
                status="interrupted" if interrupted else _status(lane),
                pack_size=len(self.pack),
                num_head=sum(parameter.numel() for parameter in self.model.heads[lane.index].values()),
                num_base=self.base.num_parameters,
                memory={
                    "peak_bytes": peak_memory(self.session.resources.device),
                    **disk_bytes(self.session.run_paths(cell), saved=lane.index in tested),
                },
                env=self.session.environment(cell),
                data=self.data.report,
                tracking=self.session.tracking_of(tracker),
            )
            write_record(record, self.session.run_paths(cell).record)
            tracker.finish(record.status, summarise(record))
            if interrupted or lane.status != "running":
                self.session.report_cell(record)
            records.append(record)
        return records


def _status(lane: Lane) -> Status:
    match lane.status:
        case "running":
            return "interrupted"
        case "diverged":
            return "diverged"
        case _:
            return "completed"
