"""Where a study keeps its files: the only place that knows their names.

<output_dir>/<study>/
    study.log
    plan.json
    .claims/            who trains what now
    .slurm/             tasks that were submitted to a cluster (src/cluster/submission.py)
    report/             index.html, report.md, table.md, tables as CSV and Parquet
        figures/        SVG and PNG
    analysis/           <table>.json
    bank.json           what src.bank measured
    runs/<run_id>/
        record.json     written last; its status says how the run ended
        adapter/        adapter_config.json, adapter_model.safetensors (peft's layout)
        method.safetensors   what a method other than LoRA trained
        head.safetensors
        predictions.safetensors
        generations.jsonl    what was written for the prompts of test, with task.generate
        metrics.jsonl        what was logged in training, a row at a time
        tracking.json
        progress.json   the step that it is at, while it trains
        checkpoints/
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class RunPaths:
    """Files of one run, under `root`."""

    root: Path

    @property
    def record(self) -> Path:
        return self.root / "record.json"

    @property
    def adapter(self) -> Path:
        return self.root / "adapter"

    @property
    def adapter_config(self) -> Path:
        return self.adapter / "adapter_config.json"

    @property
    def adapter_weights(self) -> Path:
        return self.adapter / "adapter_model.safetensors"

    @property
    def method(self) -> Path:
        """What is trained besides LoRA adapters and the head, by the names of src/models/methods/."""
        return self.root / "method.safetensors"

    @property
    def head(self) -> Path:
        return self.root / "head.safetensors"

    @property
    def predictions(self) -> Path:
        """Each example of test: prediction and target (a number, or a class of the record's data.label_names); of a
        language model loss (nats, summed over the example) and tokens."""
        return self.root / "predictions.safetensors"

    @property
    def generations(self) -> Path:
        """With task.generate, one JSON object a line for each prompt of test: prompt, references, generated."""
        return self.root / "generations.jsonl"

    @property
    def metrics(self) -> Path:
        """Rows of metrics by step, as src/records/metrics_log.py writes them."""
        return self.root / "metrics.jsonl"

    @property
    def tracking(self) -> Path:
        """Id of the run in the tracking backend, kept so that a resumed run continues it."""
        return self.root / "tracking.json"

    @property
    def progress(self) -> Path:
        """Steps taken and steps in all, for whoever watches (src/experiment/display/steps.py)."""
        return self.root / "progress.json"

    @property
    def checkpoints(self) -> Path:
        return self.root / "checkpoints"


@dataclass(frozen=True)
class StudyPaths:
    """Files of one study, under `root`."""

    root: Path

    @classmethod
    def of(cls, output_dir: str | Path, study: str) -> StudyPaths:
        return cls(Path(output_dir) / study)

    @property
    def name(self) -> str:
        return self.root.name

    @property
    def runs(self) -> Path:
        return self.root / "runs"

    def run(self, run_id: str) -> RunPaths:
        return RunPaths(self.runs / run_id)

    @property
    def report(self) -> Path:
        return self.root / "report"

    @property
    def page(self) -> Path:
        return self.report / "index.html"

    @property
    def report_markdown(self) -> Path:
        return self.report / "report.md"

    @property
    def figures(self) -> Path:
        return self.report / "figures"

    @property
    def table_markdown(self) -> Path:
        return self.report / "table.md"

    @property
    def table_csv(self) -> Path:
        return self.report / "table.csv"

    @property
    def analysis(self) -> Path:
        """Tables of src.analyze, one JSON file each."""
        return self.root / "analysis"

    @property
    def bank(self) -> Path:
        """What it costs to serve the study's adapters over one base, as src.bank measured it."""
        return self.root / "bank.json"

    @property
    def plan(self) -> Path:
        """Run ids of the last command that ran this study, so that a report knows what has not started."""
        return self.root / "plan.json"

    @property
    def claims(self) -> Path:
        """A file for each run that a process has ever taken; locked while one has it."""
        return self.root / ".claims"

    @property
    def slurm(self) -> Path:
        """What was submitted to a cluster (src/cluster/submission.py)."""
        return self.root / ".slurm"

    @property
    def log(self) -> Path:
        return self.root / "study.log"
