"""What is analysed: the adapters of a study's chosen runs, or adapters that peft saved elsewhere."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from src.adapters.lowrank import LowRank
from src.adapters.peft_import import from_peft, read_peft
from src.adapters.projections import Projection
from src.adapters.start import starting_a
from src.comparison import build_tables, choose
from src.comparison.cells import fields_of
from src.errors import HarnessError
from src.models.loading import Base
from src.records import RunPaths, RunRecord, Skipped, Study, StudyPaths
from src.records.text import Value
from src.spec import ModelSpec, RunSpec

# What may differ between runs whose ranks or seeds are compared: learning rate and alpha are chosen for each rank.
_FREE = {"seed", "lora.rank", "lora.budget", "lora.alpha", "optim.lr"}


@dataclass(frozen=True)
class Candidate:
    """A run of a study that is worth analysing.

    Attributes:
        table: index of its table in the study; a table has one base, task and metric.
    """

    record: RunRecord
    spec: RunSpec
    run: RunPaths
    table: int


@dataclass(frozen=True)
class Subject:
    """One saved adapter on its base.

    Attributes:
        name: run id, or the folder of an adapter from elsewhere.
        projections: those that it adapts.
        adapters: by projection key.
        rank: r of its run, or the largest of its letters where there is no run to tell.
        candidate: its run; None for an adapter from elsewhere.
        left_out: saved tensors that no letter names.
    """

    name: str
    projections: tuple[Projection, ...]
    adapters: Mapping[str, LowRank]
    rank: int
    candidate: Candidate | None
    left_out: tuple[str, ...]

    @property
    def seed(self) -> int | None:
        return None if self.candidate is None else self.candidate.spec.seed

    @property
    def configuration(self) -> tuple[Value, ...]:
        """Equal for subjects that differ in rank and seed only, and in what is chosen for each rank."""
        if self.candidate is None:
            return ()
        fields = fields_of(self.candidate.spec)
        return tuple(fields[key] for key in sorted(fields.keys() - _FREE))

    @property
    def pissa(self) -> bool:
        """Whether what is saved is A and B above and beside what they started from (src/adapters/lowrank.py)."""
        return self.candidate is not None and self.candidate.spec.lora.init == "pissa"

    def trained_a(self) -> dict[str, Tensor]:
        """A as it was trained, r x d_in, by projection key."""
        return {key: a[: len(a) // 2] if self.pissa else a for key, a in self._saved_a()}

    def starts(self) -> dict[str, Tensor]:
        """A before training (r x d_in) by projection key, drawn again from the run's seed or as PiSSA saves it; empty
        where there is no run to tell it."""
        if self.pissa:
            return {key: a[len(a) // 2 :] for key, a in self._saved_a()}
        if self.candidate is None:
            return {}
        params, spec = self.candidate.record.params, self.candidate.spec
        known = params.ranks or {}
        ranks = [known.get(p.key, params.rank) for p in self.projections]
        if None in ranks:
            return {}
        return starting_a(self.projections, [rank for rank in ranks if rank], spec.lora, spec.seed)

    def _saved_a(self) -> Iterator[tuple[str, Tensor]]:
        return ((key, adapter.a.detach()) for key, adapter in self.adapters.items())


def candidates(study: Study, paths: StudyPaths) -> dict[ModelSpec, list[Candidate]]:
    """The completed runs of each configuration at its chosen learning rate, by base model.

    Within a table first seeds come first, and among these the best configuration; methods other than LoRA are missing.
    """
    found: dict[ModelSpec, list[Candidate]] = {}
    for number, table in enumerate(build_tables(study).tables):
        columns = [choice.cell.scored for choice in choose(table)]
        for place in range(max(map(len, columns), default=0)):
            for record in (records[place] for records in columns if place < len(records)):
                spec = record.run_spec()
                if spec.method.name != "lora":
                    continue
                base = ModelSpec(spec.model.path, spec.model.revision, projections=spec.model.projections)
                found.setdefault(base, []).append(Candidate(record, spec, paths.run(record.run_id), number))
    return found


def load_candidates(chosen: Sequence[Candidate], base: Base) -> tuple[list[Subject], list[Skipped]]:
    """The adapters of runs, and those that cannot be read or do not fit the base."""
    subjects, skipped = [], []
    for candidate in chosen:
        folder = candidate.run.adapter
        try:
            subjects.append(load_subject(folder, base, candidate.record.run_id, candidate))
        except HarnessError as error:
            skipped.append(Skipped(folder, str(error)))
    return subjects, skipped


def load_subject(folder: Path, base: Base, name: str, candidate: Candidate | None = None) -> Subject:
    """An adapter, on the base's device.

    Raises:
        HarnessError: no adapter that can be read, or one that does not fit the base.
    """
    loaded = from_peft(base.projections, read_peft(folder))
    if any(adapter.magnitude is not None for adapter in loaded.adapters.values()):
        raise HarnessError("The adapter cannot be analysed: DoRA's change of W is not of low rank.")
    weight = next(base.model.parameters())
    adapters = {key: adapter.to(weight.device, adapter.a.dtype) for key, adapter in loaded.adapters.items()}
    own = tuple(p for p in base.projections if p.key in adapters)
    known = None if candidate is None else candidate.record.params.rank
    rank = known or max(len(adapter.a) for adapter in adapters.values())
    return Subject(name, own, adapters, rank, candidate, loaded.left_out)


def adapted_projections(subjects: Sequence[Subject]) -> Iterator[Projection]:
    """Every projection that at least one of the subjects adapts, once, in the order of the base's."""
    found = {p.key: p for subject in subjects for p in subject.projections}
    return iter(sorted(found.values(), key=lambda p: (p.layer, "qkvougd".index(p.letter))))
