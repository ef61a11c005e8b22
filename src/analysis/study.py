"""The analysis of one study, or of adapters from elsewhere: which subjects, all tables, and the files."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from src.analysis.amplification import DRAWS
from src.analysis.base_svd import base_svds
from src.analysis.behaviour import Probe
from src.analysis.overlap import Overlap, compare
from src.analysis.questions import forgetting_rows, truncation_rows
from src.analysis.subjects import Subject, adapted_projections, candidates, load_candidates, load_subject
from src.analysis.tables import LAYOUTS, Row, make_table
from src.analysis.thin import Svd
from src.analysis.weights import base_rows, weight_rows
from src.errors import HarnessError
from src.models.loading import Base, kind_of_all, load_base
from src.records import AnalysisTable, Skipped, Study, StudyPaths, write_analysis
from src.spec import TEXT_KINDS, ModelSpec, source_name

logger = logging.getLogger(__name__)
# Runs whose behaviour is measured: each needs a forward pass over the examples.
MAX_BEHAVIOUR = 24
TEXTS = 50  # of a language model, whose logits cost more than its layers


@dataclass(frozen=True)
class Options:
    """Attributes:
    cache_dir: fetched models and data, and the SVDs of base weights.
    examples: validation examples for truncation and forgetting; 0 leaves both out.
    """

    cache_dir: Path
    device: torch.device
    examples: int


@dataclass
class Analysis:
    """What was found.

    Attributes:
        tables: by name.
        skipped: adapters that could not be read or do not fit their base.
        notes: sentences on what was left out.
    """

    tables: dict[str, AnalysisTable] = field(default_factory=dict)
    skipped: list[Skipped] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def analyse_study(study: Study, paths: StudyPaths, options: Options) -> Analysis:
    """All tables of a study, from its records and saved adapters.

    Raises:
        HarnessError: no completed run with an adapter that can be read, or a base that cannot be loaded.
    """
    analysis, work = Analysis(skipped=list(study.skipped)), _Work(options)
    chosen = candidates(study, paths)
    if not chosen:
        raise HarnessError(
            f"Study {study.name!r} has no completed run with adapters to analyse: {_what_there_is(study)}. Run a cell "
            "with lora.targets other than none."
        )
    others = sorted({method for r in study.records if (method := r.run_spec().method.name) != "lora"})
    if others:
        analysis.notes.append(f"Left out: runs of {', '.join(others)}; only what LoRA alone changed is compared.")
    for model, runs in chosen.items():
        base = _base(model, options)
        subjects, skipped = load_candidates(runs, base)
        analysis.skipped += skipped
        if subjects:
            work.add(source_name(model.path), base, subjects)
    if not work.names:
        reason = analysis.skipped[-1].reason
        raise HarnessError(f"No adapter of study {study.name!r} can be analysed; the last one's reason: {reason}")
    return work.finish(analysis)


def analyse_folders(folders: Sequence[Path], model: ModelSpec, options: Options) -> Analysis:
    """All tables that need no data, of adapters that peft saved.

    Raises:
        HarnessError: an adapter that cannot be read or does not fit the base, or a base that cannot be loaded.
    """
    base, work, subjects = _base(model, options), _Work(dataclasses.replace(options, examples=0)), []
    for folder in folders:
        try:
            subjects.append(load_subject(folder, base, str(folder)))
        except HarnessError as error:
            raise HarnessError(f"{folder}: {error} The base is {model.path}.") from error
    work.add(source_name(model.path), base, subjects)
    return work.finish(Analysis())


def write_tables(analysis: Analysis, folder: Path) -> list[Path]:
    """Write the tables, and remove those of an earlier analysis that this one did not make.

    Raises:
        WriteError: the system refused to write.
    """
    written = [write_analysis(table, folder) for table in analysis.tables.values()]
    for name in LAYOUTS.keys() - analysis.tables.keys():
        (folder / f"{name}.json").unlink(missing_ok=True)
    return written


class _Work:
    """Collects rows over the bases of a study."""

    def __init__(self, options: Options) -> None:
        self.options, self.overlap = options, Overlap()
        self.rows: dict[str, list[Row]] = {name: [] for name in LAYOUTS}
        self.names: list[str] = []
        self.notes: list[str] = []

    def add(self, name: str, base: Base, subjects: Sequence[Subject]) -> None:
        projections = list(adapted_projections(subjects))
        svds = base_svds(base.backbone, projections, self.options.cache_dir)
        self.rows["base_spectrum"] += base_rows(name, projections, svds)
        for table, rows in weight_rows(subjects, base.backbone, svds).items():
            self.rows[table] += rows
        for subject in subjects:
            if (count := len(subject.left_out)) > 0:
                self.notes.append(f"{subject.name}: left out {count} tensors of no letter, as {subject.left_out[0]}.")
        self.names += [subject.name for subject in subjects]
        logger.info("Compared %d adapters on %s with its weights", len(subjects), name)
        compare(subjects, svds, self.overlap)
        if self.options.examples:
            self._behaviour(subjects, svds)

    def finish(self, analysis: Analysis) -> Analysis:
        """`analysis` with all tables that have rows, and the notes."""
        self.rows["subspace"] = self.overlap.rows
        if left_out := self.overlap.left_out:
            more = f" and {len(left_out) - 5} more" if len(left_out) > 5 else ""
            self.notes.append(f"No room in subspace for {'; '.join(left_out[:5])}{more}.")
        analysis.notes += self.notes
        notes = self._notes()
        analysis.tables |= {name: make_table(name, rows, notes) for name, rows in self.rows.items() if rows}
        return analysis

    def _behaviour(self, subjects: Sequence[Subject], svds: Mapping[str, Svd]) -> None:
        """Subjects of one base, grouped by what they can share a probe in."""
        measured = subjects[:MAX_BEHAVIOUR]
        if len(measured) < len(subjects):
            self.notes.append(f"forgetting: the first {MAX_BEHAVIOUR} of {len(subjects)} runs only.")
        truncated: set[int] = set()
        for group in _grouped(measured, _setting):
            table, spec = _run(group[0]).table, _run(group[0]).spec
            examples = min(self.options.examples, TEXTS) if spec.task.kind in TEXT_KINDS else self.options.examples
            try:
                probe = Probe(group, examples, self.options.cache_dir, self.options.device)
            except HarnessError as error:
                self.notes.append(f"truncation and forgetting of {len(group)} runs left out: {error}")
                continue
            self.notes += probe.left_out
            self.rows["forgetting"] += forgetting_rows(probe)
            if table not in truncated and probe.lanes:
                truncated.add(table)
                self.rows["truncation"] += truncation_rows(probe, min(probe.lanes), svds)
            logger.info("Evaluated %d adapted models on %d validation examples", len(probe.lanes), len(probe.chosen))

    def _notes(self) -> dict[str, Any]:
        return {
            "runs": self.names,
            "choice": "completed runs of each configuration at the learning rate chosen on validation",
            "precision": "float64 from the saved factors and the base's weights in float32",
            "random": f"{DRAWS} draws from a generator of fixed seed (along_random); expectation (random)",
            "start": "ranks of one seed start from nested rows of A: read their phi against start, not only random",
            "examples": self.options.examples,
            "left_out": self.notes,
        }


def _base(model: ModelSpec, options: Options) -> Base:
    """The weights in float32, whatever precision the runs computed in, and with every projection of the model."""
    kind = kind_of_all(model, options.cache_dir)
    return load_base(model, kind, options.cache_dir, device=options.device, dtype=torch.float32, attention="sdpa")


def _run(subject: Subject) -> Any:
    assert subject.candidate is not None
    return subject.candidate


def _setting(subject: Subject) -> tuple[Any, ...]:
    spec = _run(subject).spec
    return spec.model, spec.task, spec.trainer.dtype


def _grouped(subjects: Iterable[Subject], key: Callable[[Subject], Any]) -> list[list[Subject]]:
    groups: dict[Any, list[Subject]] = {}
    for subject in subjects:
        groups.setdefault(key(subject), []).append(subject)
    return list(groups.values())


def _what_there_is(study: Study) -> str:
    targets = {record.run_spec().lora.targets for record in study.records}
    if not study.records:
        return f"{len(study.skipped)} records cannot be read and {len(study.unfinished)} runs have not ended"
    return "its runs train the head alone (targets none)" if targets == {"none"} else "none has a validation score"
