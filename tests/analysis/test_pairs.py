"""Which runs are held against each other."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from src.adapters.lowrank import LowRank
from src.adapters.start import FrozenWeights, make_adapters, starting_a
from src.analysis.pairs import SEED_PAIRS, find_pairs, first_seeds
from src.analysis.subjects import Candidate, Subject
from src.records import RunPaths
from tests.record_factory import make_record, make_spec
from tests.tiny import tiny_base


def subject(targets: str = "qv", rank: int = 4, seed: int = 0, **changes: object) -> Subject:
    spec = make_spec(targets, rank, seed=seed, **changes)
    record = make_record(spec)
    run = RunPaths(Path(record.run_id))
    return Subject(f"{targets}{rank}s{seed}", (), {}, rank, Candidate(record, spec, run, 0), ())


def names(subjects: list[Subject]) -> list[tuple[str, str, str]]:
    return [(kind, a.name, b.name) for kind, a, b in find_pairs(subjects)]


def test_each_rank_meets_the_largest_of_another_seed_first_then_of_its_own() -> None:
    cells = [subject(rank=rank, seed=seed) for seed in (0, 1) for rank in (1, 8, 64)]
    ranks = [pair for pair in names(cells) if pair[0] == "ranks"]
    assert ranks == [
        ("ranks", "qv8s0", "qv64s1"),
        ("ranks", "qv1s0", "qv64s1"),
        ("ranks", "qv8s0", "qv64s0"),
        ("ranks", "qv1s0", "qv64s0"),
    ]


def test_seeds_are_paired_within_a_rank_the_largest_first() -> None:
    cells = [subject(rank=rank, seed=seed) for seed in range(4) for rank in (1, 8)]
    seeds = [pair[1:] for pair in names(cells) if pair[0] == "seeds"]
    assert seeds[:SEED_PAIRS] == [("qv8s0", "qv8s1"), ("qv8s0", "qv8s2"), ("qv8s0", "qv8s3")]
    assert len(seeds) == 2 * SEED_PAIRS


def test_the_learning_rate_and_alpha_chosen_for_a_rank_do_not_part_a_configuration_but_all_else_does() -> None:
    assert len(names([subject(rank=1), subject(rank=8, optim__lr=0.01, lora__alpha=4.0)])) == 1
    assert names([subject(rank=1), subject(rank=8, lora__layers="0-1")]) == []
    assert names([subject("q", 1), subject("qv", 8)]) == []
    assert names([subject(rank=1), subject(rank=8, task__train_size=100)]) == []


def test_one_cell_has_no_pair() -> None:
    assert names([subject()]) == []


def test_adapters_from_elsewhere_are_compared_as_of_different_seeds() -> None:
    folders = [Subject(name, (), {}, rank, None, ()) for name, rank in (("a", 4), ("b", 4), ("c", 8))]
    assert names(folders) == [("ranks", "a", "c"), ("seeds", "a", "b")]
    assert first_seeds(folders) == folders
    assert folders[0].starts() == {}


def test_first_seeds_keep_one_for_each_configuration_and_rank() -> None:
    cells = [subject("qv", 4, 0), subject("q", 4, 0), subject("qv", 8, 0), subject("qv", 4, 1)]
    assert first_seeds(cells) == cells[:3]


def test_a_subjects_start_is_what_its_run_started_from() -> None:
    base = tiny_base("bert")
    projections = tuple(p for p in base.projections if p.letter in "qv")
    bare = subject(rank=4, seed=3)
    assert bare.candidate is not None
    ranks, weights = [4] * len(projections), FrozenWeights(base.backbone)
    expected = make_adapters(projections, ranks, bare.candidate.spec.lora, 3, weights, dtype=torch.float32)
    starts = Subject("x", projections, expected, 4, bare.candidate, ()).starts()
    assert all(torch.equal(starts[key], adapter.a) for key, adapter in expected.items())


def test_ranks_of_one_seed_start_from_nested_rows() -> None:
    """Why the column `start` is there."""
    base, lora = tiny_base("bert"), make_spec().lora
    small, large = (starting_a(base.projections, [rank] * len(base.projections), lora, 0) for rank in (2, 8))
    assert all(torch.equal(large[key][:2], a) for key, a in small.items())


def test_of_pissa_what_was_trained_and_its_start_are_told_apart() -> None:
    """Saved is A above what it started from; r is the run's, not that of the saved adapter."""
    base = tiny_base("bert")
    projections = tuple(p for p in base.projections if p.letter in "qv")
    bare = subject(rank=4, lora__init="pissa")
    assert bare.candidate is not None
    ranks, weights = [4] * len(projections), FrozenWeights(base.backbone)
    made = make_adapters(projections, ranks, bare.candidate.spec.lora, 0, weights, dtype=torch.float64)
    with torch.no_grad():
        for adapter in made.values():
            adapter.a.add_(1.0)
    saved = {key: LowRank(*map(nn.Parameter, one.factors()), 1.0, one.rows, 0.0) for key, one in made.items()}
    found = Subject("x", projections, saved, 4, bare.candidate, ())
    starts = found.starts()
    for key, a in found.trained_a().items():
        assert torch.equal(a, made[key].a)
        assert torch.equal(starts[key], made[key].origin.a)
