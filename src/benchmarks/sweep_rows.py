"""The rows of the sweep benchmark: what runs the cells, as processes that leave results."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from src.benchmarks.peers.job import Job, PeerResult, read_results
from src.benchmarks.peers.settings import Setting, settings_of
from src.benchmarks.processes import SPIN, start
from src.benchmarks.request import Request
from src.data import TaskData
from src.errors import HarnessError
from src.experiment.resolve import Cell
from src.records import StudyPaths, read_record
from src.spec import run_id
from src.spec.run import DType

PEERS = "src.benchmarks.peers"
STUDY = "bench"
TRIAL_STEPS = 10  # of each setting of peft


@dataclass
class Sweep:
    """The cells, what the peers get of them, and what all have found so far.

    Attributes:
        folder: for all that is written.
        results: by row, one list for each round.
    """

    request: Request
    cells: Sequence[Cell]
    data: TaskData
    job: Job
    folder: Path
    results: dict[str, list[list[PeerResult]]] = field(default_factory=dict)

    @property
    def job_file(self) -> Path:
        """What the peers read."""
        return self.folder / "job.json"

    @property
    def output(self) -> Path:
        """Where our own command writes."""
        return self.folder / "outputs"


def ours(sweep: Sweep, dtype: DType) -> list[PeerResult]:
    """`python -m src.train -m` with the sweep's axes; its report, and its W&B mirror (offline), included.

    Raises:
        HarnessError: a cell did not complete.
    """
    options = sweep.request.options
    axes = {"lora.rank": options["ranks"], "lora.targets": options["targets"], "optim.lr": options["lr"]}
    swept = [f"{key}={','.join(map(str, values))}" for key, values in axes.items() if values]
    own = {"output_dir": sweep.output, "study": STUDY, "trainer.dtype": dtype}
    rest = [word for word in sweep.request.overrides if word.partition("=")[0] not in own]
    start(
        [["-m", "src.train", "-m", *swept, *rest, *(f"{key}={value}" for key, value in own.items())]],
        {"WANDB_MODE": "offline"},
    )
    return [of_record(cell, dtype, StudyPaths.of(sweep.output, STUDY)) for cell in sweep.cells]


def trainer(sweep: Sweep) -> list[PeerResult]:
    """peft + HF Trainer, a process a cell, one after another, in the environment of a person without this harness."""
    found = []
    for index in range(len(sweep.cells)):
        result = sweep.folder / f"trainer-{index}.json"
        start([["-m", f"{PEERS}.trainer_cell", str(sweep.job_file), str(index), str(result)]], {SPIN: None})
        found += read_results(result)
    return found


def peft(sweep: Sweep, setting: Setting) -> list[PeerResult]:
    """peft in one process."""
    result = sweep.folder / "peft.json"
    start([_loop(sweep, setting, result)], _env(setting))
    return read_results(result)


def concurrent(sweep: Sweep, setting: Setting) -> list[PeerResult]:
    """The same, each cell in a process of its own, all at once."""
    results = [sweep.folder / f"concurrent-{index}.json" for index in range(len(sweep.cells))]
    start([[*_loop(sweep, setting, result), "cell", str(index)] for index, result in enumerate(results)], _env(setting))
    return [cell for result in results for cell in read_results(result)]


def find_best(sweep: Sweep, dtypes: Sequence[str]) -> tuple[Setting, dict[str, float]]:
    """The fastest setting of peft, and the seconds of a step of all that were tried.

    Precision and attention are tried first, then what the process is given; bfloat16 only where the hardware has it.
    """
    tried = {setting: _step_seconds(sweep, setting) for setting in settings_of(dtypes)}
    best = min(tried, key=tried.__getitem__)
    others = [
        dataclasses.replace(best, keep_memory=keep, spin=spin) for keep in (True, False) for spin in (True, False)
    ]
    tried |= {setting: _step_seconds(sweep, setting) for setting in others if setting != best}
    return min(tried, key=tried.__getitem__), {setting.text: seconds for setting, seconds in tried.items()}


def _step_seconds(sweep: Sweep, setting: Setting) -> float:
    result = sweep.folder / "trial.json"
    start([[*_loop(sweep, setting, result), "steps", str(TRIAL_STEPS)]], _env(setting))
    return float(json.loads(result.read_text())["step_s"])


def _loop(sweep: Sweep, setting: Setting, result: Path) -> list[str]:
    given = json.dumps(dataclasses.asdict(setting))
    return ["-m", f"{PEERS}.loop", str(sweep.job_file), str(result), given]


def _env(setting: Setting) -> dict[str, str | None]:
    return {} if setting.spin else {SPIN: None}


def of_record(cell: Cell, dtype: DType, paths: StudyPaths) -> PeerResult:
    spec = dataclasses.replace(cell.spec, trainer=dataclasses.replace(cell.spec.trainer, dtype=dtype))
    record = read_record(paths.run(run_id(spec)).record)
    validation, test = record.metrics.validation, record.metrics.test
    if record.status != "completed" or validation is None or test is None:
        raise HarnessError(f"{record.run_id} ended as {record.status}, so nothing is said of the sweep's speed.")
    return PeerResult(
        name=cell.run_id,
        validation=validation["accuracy"] or 0.0,
        test=test["accuracy"] or 0.0,
        tokens=int(record.time["tokens"] or 0),
        adapter=record.params.adapter or 0,
        head=record.params.head or 0,
        train_s=float(record.time["total_s"] or 0.0),
    )
