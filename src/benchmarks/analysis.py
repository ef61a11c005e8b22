"""Spectral analysis of many adapters: from thin factors against from d x d matrices, and against training."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median
from typing import Any

import torch

from src.analysis.study import Options, analyse_study
from src.benchmarks.found import Found, Goal, Table
from src.benchmarks.machine import describe_machine
from src.benchmarks.measure import Work, in_turns, ratios, spread
from src.benchmarks.request import Request
from src.benchmarks.spectral_sides import Dense, Subjects, Thin, check, draw
from src.errors import HarnessError
from src.models.hardware import resolve_device
from src.records import find_study, read_study

GOAL, SHARE = 1000.0, 0.02
# How many adapters are also decomposed as matrices where all would take minutes; every rank of a mix is among them.
FEW, LARGE = 4, 1024
REPEATS = 5
STAGES = ("spectra", "phi", "amplification")
PRODUCT = "W times all directions alone"
NOTE = (
    "Dense forms delta W, decomposes it whole and cuts to r directions before any product. What does not depend on the "
    "adapters (W's own SVD, random directions) is computed once for each matrix and counted on neither side. Thin "
    "computes in float64 whatever the factors' precision; a dense row in float32 is float32 throughout. "
    f"'{PRODUCT}' is part of amplification: 2 d^2 times the sum of ranks, for which there is no shorter way, so that "
    "its ratio bounds what any thin method can reach."
)
Seconds = dict[str, list[float]]


def run(request: Request) -> Found:
    """Check, then time each d and each set of ranks.

    Raises:
        ConfigError: an unknown device.
        HarnessError: results differ that should be equal, or a study that is not there.
    """
    device = resolve_device(request.settings.device)
    tables, goals, checks = [], [], []
    raw: dict[str, Any] = {}
    for name, subjects in cases(request, device):
        thin, dense = Thin(subjects), Dense(subjects)
        checks.append(f"{name}: largest differences of thin and dense: {check(thin, dense)}.")
        times = in_turns(_works(thin, dense), request.options["rounds"], device)
        sides = scaled(times, subjects)
        tables.append(_table(name, subjects, *sides))
        goals.append(_goal(name, *sides))
        raw[name] = {"measured": times, "dense": subjects.dense, "adapters": len(subjects.adapters)}
    for study in request.options["study"]:
        goal, measured = _share(request, study, device)
        goals.append(goal)
        raw[f"study {study}"] = measured
    if not request.options["study"]:
        goals.append(Goal("analysis / training time", None, SHARE, "at most", why="name a study: study=what_rank"))
    return Found(tuple(tables), tuple(goals), tuple(checks), raw, describe_machine(device), (NOTE,))


def cases(request: Request, device: torch.device) -> Iterator[tuple[str, Subjects]]:
    """For each precision and d: all ranks evenly mixed, then each of them alone."""
    count, ranks = request.options["adapters"], request.options["ranks"]
    sets = [ranks, *((rank,) for rank in ranks)] if len(ranks) > 1 else [ranks]
    for dtype in request.options["dtype"]:
        for d in request.options["d"]:
            for chosen in sets:
                name = f"d = {d}, r = {', '.join(map(str, chosen))}, {dtype}"
                own = [min(chosen[at % len(chosen)], d) for at in range(count)]
                yield name, draw(d, own, _dense_count(request, d, chosen), getattr(torch, dtype), device)


def _dense_count(request: Request, d: int, chosen: tuple[int, ...]) -> int:
    """All adapters of a mix where that takes a minute; else a few."""
    wanted: int | None = request.options["dense"]
    count: int = request.options["adapters"]
    if wanted is None:
        wanted = count if len(chosen) > 1 and d <= LARGE else max(FEW, len(chosen))
    return min(wanted, count)


def _works(thin: Thin, dense: Dense) -> list[Work]:
    """Thin ones take milliseconds and are repeated within one timing."""

    def repeated(run: Callable[[], object]) -> Callable[[], None]:
        def all_of_them() -> None:
            for _ in range(REPEATS):
                run()

        return all_of_them

    own = {stage: getattr(thin, stage) for stage in STAGES} | {PRODUCT: thin.product}
    return [
        *(Work(f"thin {name}", repeated(run), parts=REPEATS) for name, run in own.items()),
        *(Work(f"dense {stage}", getattr(dense, stage)) for stage in STAGES),
    ]


def scaled(times: dict[str, tuple[float, ...]], subjects: Subjects) -> tuple[Seconds, Seconds]:
    """Thin and dense seconds by stage and in all, round by round, dense as for all adapters and pairs."""
    adapters, pairs = len(subjects.adapters) / subjects.dense, subjects.pairs / subjects.dense_pairs
    factors = {"spectra": adapters, "phi": pairs, "amplification": adapters}
    thin = {stage: list(times[f"thin {stage}"]) for stage in STAGES}
    dense = {stage: [factors[stage] * second for second in times[f"dense {stage}"]] for stage in STAGES}
    for side in (thin, dense):
        side["in all"] = [sum(seconds) for seconds in zip(*(side[stage] for stage in STAGES), strict=True)]
    thin[PRODUCT] = list(times[f"thin {PRODUCT}"])
    dense[PRODUCT] = dense["in all"]
    return thin, dense


def _table(name: str, subjects: Subjects, thin: Seconds, dense: Seconds) -> Table:
    rows = []
    for stage, own in thin.items():
        of = ratios(dense[stage], own)
        low, high = spread([1000.0 * second for second in own])
        quartiles = "{:.3g} to {:.3g}".format(*spread(of))
        times = f"{1000.0 * median(own):.3g}", f"{low:.3g} to {high:.3g}", f"{median(dense[stage]):.3g}"
        rows.append((stage, *times, f"{median(of):.3g}", quartiles))
    columns = ("", "thin ms", "quartiles", "dense s", "dense / thin", "quartiles")
    return Table(f"{len(subjects.adapters)} adapters, {name}; {_counted(subjects)}", columns, tuple(rows))


def _counted(subjects: Subjects) -> str:
    count = len(subjects.adapters)
    if subjects.dense == count:
        return f"dense on all of them and all {subjects.pairs} pairs"
    return (
        f"dense timed on {subjects.dense} of them ({subjects.dense_pairs} of {subjects.pairs} pairs) and multiplied "
        "to the full numbers"
    )


def _goal(name: str, thin: Seconds, dense: Seconds) -> Goal:
    bound = median(ratios(dense[PRODUCT], thin[PRODUCT]))
    beside = f"dense / {PRODUCT}: {bound:.0f}"
    return Goal(f"dense / thin, {name}", median(ratios(dense["in all"], thin["in all"])), GOAL, "at least", beside)


def _share(request: Request, name: str, device: torch.device) -> tuple[Goal, dict[str, Any]]:
    """All tables that need no forward pass, of a study's chosen runs, against what all its runs took to train.

    Raises:
        HarnessError: no such study, or nothing in it that can be analysed.
    """
    paths = find_study(Path(request.settings.output_dir), name, "output_dir=<folder>")
    study = read_study(paths)
    trained = sum(record.time.get("train_s") or 0.0 for record in study.records)
    if trained <= 0.0:
        raise HarnessError(f"No record of study {name!r} says how long it trained; choose one with completed runs.")
    options = Options(Path(request.settings.cache_dir), device, examples=0)
    work = Work("analysis", lambda: analyse_study(study, paths, options))
    seconds = in_turns([work], request.options["rounds"], device)["analysis"]
    beside = f"{median(seconds):.3g} s of {trained:.4g} s, {len(study.records)} runs; W's SVDs from the cache"
    goal = Goal(f"analysis / training time, study {name}", median(seconds) / trained, SHARE, "at most", beside)
    return goal, {"analysis_s": seconds, "train_s": trained}
