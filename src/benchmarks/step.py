"""One training step: ours, alone, in lanes and with DoRA, against peft, loralib, the frozen model and its products."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median

import torch

from src.benchmarks.agreement import check_equal, check_loss, copy_factors, draw_b
from src.benchmarks.floor import Product
from src.benchmarks.found import Found, Goal, Table
from src.benchmarks.machine import describe_machine, require
from src.benchmarks.measure import Seconds, in_turns, ratio, timing_table
from src.benchmarks.peer_adapters import loralib_side, peft_side
from src.benchmarks.request import Request
from src.benchmarks.step_rows import (
    DORA,
    FLOOR,
    FROZEN,
    KEPT,
    LORALIB,
    OURS,
    OWN_PACKED,
    OWN_PADDED,
    PACKED,
    PADDED,
    PEFT,
    PEFT_DORA,
    PLAIN_FLOOR,
    SIDE,
    SQUARE,
    STOCK,
    TOP,
    Rows,
)
from src.benchmarks.workbench import Bench, chosen_dtypes, in_dtype, prepare
from src.experiment.resources import Resources
from src.spec import source_name

BUSY = (
    "With model.train(), as in the HF Trainer, the base's own dropout is on as well. Ratios are medians over rounds; "
    "quartiles far apart mean that the machine was too busy to tell."
)
# Share of the step on a CPU that is to be matrix products; that of float64 was never asked for.
FLOOR_SHARES = {"float32": 0.80, "float64": 0.80, "bfloat16": 0.55}
CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}


def run(request: Request) -> Found:
    """Check and time in each precision.

    Raises:
        ConfigError: what does not fit the model, or cannot be compared.
        HarnessError: a peer is missing, or results differ that should be equal.
    """
    require("peft", "loralib")
    options, lanes = request.options, request.options["lanes"]
    resources = Resources(request.settings.device, Path(request.settings.cache_dir))
    tables, goals, checks, raw, notes = [], [], [], {}, []
    for dtype in chosen_dtypes(request, resources.device):
        bench = prepare(in_dtype(request.spec, dtype), resources, options["batch"], options["length"], max(lanes))
        checks += check(bench, lanes)
        rows = Rows(bench, lanes)
        work = rows.make(options["rows"])
        times = in_turns(work, options["rounds"], bench.device, clock=CLOCKS[options["clock"][0]])
        tables.append(_table(bench, times, options["clock"][0]))
        goals += goals_of(times, dtype, bench.device, rows.products)
        raw[dtype] = {name: list(seconds) for name, seconds in times.items()}
        notes += _floor_note(rows.products, times, dtype)
    env = describe_machine(resources.device)
    return Found(tuple(tables), tuple(goals), tuple(checks), {"seconds": raw}, env, (*notes, BUSY))


def check(bench: Bench, lanes: Sequence[int]) -> list[str]:
    """Raises:
    HarnessError: sides differ that should compute the same.
    """
    dtype, first = bench.dtype, bench.batches[0]
    found = []
    for dora in (False, True):
        setup = bench.changed(dropout=0.0, dora=dora)
        peers = {PEFT_DORA if dora else PEFT: peft_side(bench.base, setup, first, bench.num_labels, dora=dora)}
        if not dora:
            peers[LORALIB] = loralib_side(bench.base, setup, first, bench.num_labels)
        for name, peer in peers.items():
            ours = bench.ours(setup)
            draw_b(ours)
            copy_factors(ours, peer)
            found.append(check_equal(name, ours, peer, dtype))
    plain = bench.changed(dropout=0.0)
    untrained = bench.ours(plain).loss()
    for name, frozen in ((FROZEN, bench.frozen()), (STOCK, bench.stock())):
        found.append(check_loss(f"ours at B = 0 and the {name}", untrained, frozen.loss(), dtype))
    apart, end_to_end = (bench.natural(bench.drawn, end_to_end=on).losses() for on in (False, True))
    pairs = zip(apart, end_to_end, strict=True)
    found += [check_loss("texts padded and end to end", one, other, dtype) for one, other in pairs]
    for count in (count for count in lanes if count > 1):
        packed = bench.ours(plain, count).losses()[0]
        found.append(check_loss(f"one lane alone and with {count - 1} others", untrained, packed, dtype))
    return found


def goals_of(times: Seconds, dtype: str, device: torch.device, products: Sequence[Product]) -> list[Goal]:
    """The goals that one precision's times speak of."""
    gpu = device.type == "cuda"
    peers = ratio(times, PEFT_DORA, PEFT)
    beside = "" if peers is None else f"peft's own: {peers:.3g}"
    goals = [
        Goal(f"{dtype}: step, ours / frozen model", ratio(times, OURS, FROZEN), 1.05 if gpu else 1.10, "at most"),
        Goal(f"{dtype}: step, DoRA / LoRA", ratio(times, DORA, OURS), 1.10, "at most", beside=beside),
        _floor_goal(times, dtype) if not gpu else _peak_goal(times, dtype, products),
    ]
    for name in (name for name in times if name.startswith(TOP)):
        bound = 0.35 if name.endswith(KEPT) else 0.70
        goals.append(
            Goal(f"{dtype}: {name.removeprefix('ours, ')} / all layers", ratio(times, name, OURS), bound, "at most")
        )
    own = ratio(times, OWN_PADDED, OWN_PACKED)
    beside = "" if own is None else f"in our batches, of like lengths: {own:.3g}"
    goals.append(Goal(f"{dtype}: padded / end to end", ratio(times, PADDED, PACKED), 1.4, "at least", beside=beside))
    return [goal for goal in goals if goal.ratio is not None]


def _floor_goal(times: Seconds, dtype: str) -> Goal:
    plain = ratio(times, PLAIN_FLOOR, OURS)
    beside = "" if plain is None else f"torch's own products / step: {plain:.3g}"
    return Goal(
        f"{dtype}: matrix products / step", ratio(times, FLOOR, OURS), FLOOR_SHARES[dtype], "at least", beside=beside
    )


def _peak_goal(times: Seconds, dtype: str, products: Sequence[Product]) -> Goal:
    """Of the operations that a large square product does in the same time."""
    found = ratio(times, SQUARE, OURS)
    share = None if found is None else found * sum(product.flops for product in products) / (2 * SIDE**3)
    return Goal(f"{dtype}: operations in a step / in a square product as long", share, 0.50, "at least")


def _table(bench: Bench, times: Seconds, clock: str) -> Table:
    spec, (rows, length) = bench.setup.spec, bench.batches[0].attention_mask.shape
    title = (
        f"{source_name(spec.model.path)}, {str(bench.dtype).removeprefix('torch.')}, {rows} x {length} tokens, "
        f"r = {bench.setup.allocation.rank} on {spec.lora.targets}, dropout {spec.lora.dropout:g}"
    )
    if clock == "cpu":
        title += ", processor time"
    beside = {name: f"{found:.3f}" for name in times if name != OURS and (found := ratio(times, name, OURS))}
    reference = FROZEN if FROZEN in times else next(iter(times))
    return timing_table(title, times, reference, extra={"/ ours": beside})


def _floor_note(products: Sequence[Product], times: Seconds, dtype: str) -> list[str]:
    if FLOOR not in times:
        return []
    flops, seconds = sum(product.flops for product in products), median(times[FLOOR])
    rate = f"{flops / 1e9:.1f} GFLOP in all, {flops / seconds / 1e9:.0f} GFLOP/s"
    return [f"{dtype}: {len(products)} matrix products of {rate}."]
