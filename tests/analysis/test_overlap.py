from __future__ import annotations

from pathlib import Path

import pytest

from src.analysis import overlap
from src.analysis.base_svd import base_svds
from src.analysis.overlap import Overlap, compare
from src.analysis.similarity import phi
from src.analysis.subjects import Subject
from src.analysis.tables import LAYOUTS
from src.analysis.thin import right_vectors
from src.models.loading import Base
from tests.analysis.factors import adapter
from tests.tiny import tiny_base


@pytest.fixture(scope="module")
def base() -> Base:
    return tiny_base("bert")


def elsewhere(base: Base, name: str, rank: int, seed: int, letters: str = "qvd") -> Subject:
    own = tuple(p for p in base.projections if p.letter in letters)
    adapters = {p.key: adapter(p.d_out, p.d_in, rank, seed=seed + 10 * i) for i, p in enumerate(own)}
    return Subject(name, own, adapters, rank, None, ())


def rows(base: Base, subjects: list[Subject], tmp_path: Path) -> tuple[Overlap, list[dict[str, object]]]:
    found = Overlap()
    compare(subjects, base_svds(base.backbone, base.projections, tmp_path), found)
    return found, [dict(zip(LAYOUTS["subspace"].columns, row, strict=True)) for row in found.rows]


def test_all_kinds_with_their_values(base: Base, tmp_path: Path) -> None:
    a, b = elsewhere(base, "a", 2, 1), elsewhere(base, "b", 5, 2)
    _, found = rows(base, [a, b], tmp_path)
    counts = {kind: [row for row in found if row["kind"] == kind] for kind in ("ranks", "seeds", "base", "matrices")}
    assert len(counts["ranks"]) == 6 * 2 * 5
    assert not counts["seeds"]
    # q and v read the hidden states, d the intermediate ones: only q and v can be compared.
    assert {(row["letter_a"], row["letter_b"]) for row in counts["matrices"]} == {("q", "v")}
    assert {(row["run_b"], row["letter_a"] == row["letter_b"]) for row in counts["base"]} == {(None, True)}
    p = next(p for p in base.projections if (p.letter, p.layer) == ("v", 1))
    expected = phi(right_vectors(a.adapters[p.key].a), right_vectors(b.adapters[p.key].a), (2,), (3,))
    (row,) = [r for r in counts["ranks"] if (r["letter_a"], r["layer"], r["i"], r["j"]) == ("v", 1, 2, 3)]
    assert row["phi"] == pytest.approx(float(expected), abs=1e-6)
    assert row["random"] == pytest.approx(3 / 16, abs=1e-6)
    assert (row["run_a"], row["run_b"], row["start"]) == ("a", "b", None)


def test_what_has_no_room_is_named_and_the_first_of_a_kind_always_fits(
    base: Base, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(overlap, "MAX_ROWS", 10)
    subjects = [elsewhere(base, name, 3, seed) for seed, name in enumerate("abc")]
    found, table = rows(base, subjects, tmp_path)
    assert found.left_out[:3] == ["seeds: a with c", "seeds: b with c", "base: b"]
    assert {row["run_a"] for row in table} == {"a"}
    assert {row["i"] for row in table} == {1, 2}  # powers of two only, where a whole grid would fill the table


def test_room_is_counted_for_each_kind() -> None:
    found = Overlap()
    found.add("ranks", "one", [("ranks",)] * overlap.MAX_ROWS)
    found.add("ranks", "two", [("ranks",)])
    found.add("seeds", "three", [("seeds",)])
    assert found.left_out == ["two"]
    assert found.rows[-1] == ("seeds",)
