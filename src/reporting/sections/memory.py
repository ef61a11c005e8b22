"""LoRA against full fine-tuning in memory and on disk, as this study measured both."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from src.comparison.findings import Findings
from src.comparison.memory import MemoryCost, memory_costs, smallest_and_largest
from src.comparison.method import FULL, LORA
from src.comparison.table import Table
from src.records.record import MEMORY
from src.records.text import MISSING, byte_size, one_line, show
from src.reporting.document import Block, Grid, Paragraph, grid, without_empty
from src.reporting.material import spelled
from src.reporting.paper import GPT3_MEMORY, SOURCE

COLUMNS = (
    "method", "matrices and size", "batch", "trained parameters", "weights", "gradients", "optimiser state",
    "activations", "training memory", "of full", "peak", "checkpoint", "of full",
)  # fmt: skip
CAPTION = (
    "Training memory is the sum of the columns before it, counted from the tensors of one run: frozen weights that it "
    "computes with and weights that it trains (of methods that train the model's own parameters, only those, as no "
    "frozen copy is needed), gradients, optimiser state, and the activations that the first micro-batch keeps for the "
    "backward pass, as if the run trained alone. The peak is measured of the whole pack, with all that the process or "
    "the GPU held. The checkpoint is what was trained, as saved at the end, with the head. Of each method the smallest "
    "and the largest configuration; memory.csv has all. Powers of 1000."
)
PAPER = (
    f"The paper's rows are {SOURCE}, section 4.2: memory in use on the GPUs, the base in 16 bits; they are not results "
    "of this study."
)


def memory_blocks(findings: Findings) -> list[Block]:
    """A sentence and a grid; nothing where no run was measured."""
    costs = memory_costs(findings.table)
    if not costs:
        return []
    return [*map(Paragraph, _against_full(findings.table, costs)), _memory_grid(findings.table, costs)]


def memory_rows(table: Table) -> list[dict[str, Any]]:
    """Plain numbers of every configuration, for a data frame."""
    return [
        {
            "model": table.model,
            "task": table.task,
            "metric": table.metric,
            "method": cost.cell.method,
            "targets": cost.cell.spec.lora.targets if cost.cell.has_lora else None,
            "rank": cost.cell.rank,
            "ranks": cost.cell.ranks,
            "size": cost.cell.method_size,
            **cost.setting,
            "runs": cost.runs,
            "trained_parameters": cost.trained,
            **{part: cost.parts[part] for part in MEMORY},
            "training_bytes": cost.total,
            "training_bytes_of_full": cost.memory_of_full,
            "checkpoint_bytes_of_full": cost.checkpoint_of_full,
        }
        for cost in memory_costs(table)
    ]


def _memory_grid(table: Table, costs: Sequence[MemoryCost]) -> Grid:
    apart = [key for key in costs[0].setting if len({cost.setting[key] for cost in costs}) > 1]
    rows = [_row(cost, apart) for cost in smallest_and_largest(costs)]
    missing = "" if any(cost.full for cost in costs) else " No run trains the whole model (method=full): no ratio."
    caption = f"{table.title}. {CAPTION}{missing} {PAPER}"
    return without_empty(grid(COLUMNS, [*rows, *_paper_rows()], text_columns=3, caption=caption))


def _row(cost: MemoryCost, apart: Sequence[str]) -> list[str]:
    cell, parts = cost.cell, cost.parts
    matrices = [spelled(cell.spec.lora.targets)] if cell.has_lora else []
    frozen, trained = parts["frozen_weight_bytes"], parts["trained_weight_bytes"]
    batch = ", ".join(f"{_last(key)} {show(value, 'number')}" for key in apart if (value := cost.setting[key]))
    return [
        cell.method,
        " ".join([*matrices, cell.size_text]).strip() or MISSING,
        one_line(batch) or MISSING,
        show(cost.trained, "count"),
        _bytes(None if frozen is None or trained is None else frozen + trained),
        _bytes(parts["gradient_bytes"]),
        _bytes(parts["optimizer_bytes"]),
        _bytes(parts["activation_bytes"]),
        _bytes(cost.total),
        _percent(cost.memory_of_full),
        _bytes(parts["peak_bytes"]),
        _bytes(parts["checkpoint_bytes"]),
        _percent(cost.checkpoint_of_full),
    ]


def _paper_rows() -> list[list[str]]:
    full = GPT3_MEMORY[0]
    return [
        [
            f"paper: {row.name}", f"GPT-3 175B {row.size}".rstrip(), *[MISSING] * 6,
            byte_size(row.memory), _percent(row.memory / full.memory), MISSING,
            byte_size(row.checkpoint), _percent(row.checkpoint / full.checkpoint),
        ]
        for row in GPT3_MEMORY
    ]  # fmt: skip


def _against_full(table: Table, costs: Sequence[MemoryCost]) -> list[str]:
    own = [cost for cost in costs if cost.cell.method == LORA]
    memory = _span([cost.memory_of_full for cost in own])
    saved = _span([cost.checkpoint_of_full for cost in own])
    if memory is None or saved is None:
        return []
    full, lora = GPT3_MEMORY
    return [
        f"{table.title}: LoRA trains with {memory} of the memory that {FULL} needs, and saves {saved} of its "
        f"checkpoint (the paper, on GPT-3: {_percent(lora.memory / full.memory)} and "
        f"{_percent(lora.checkpoint / full.checkpoint)})."
    ]


def _span(ratios: Sequence[float | None]) -> str | None:
    known = [ratio for ratio in ratios if ratio is not None]
    ends = list(dict.fromkeys(_percent(end) for end in (min(known), max(known)))) if known else []
    return " to ".join(ends) or None


def _bytes(count: float | None) -> str:
    return MISSING if count is None else byte_size(count)


def _percent(ratio: float | None) -> str:
    if ratio is None:
        return MISSING
    return f"{100 * ratio:.3g} %" if ratio < 9.995 else f"{100 * ratio:,.0f} %"


def _last(key: str) -> str:
    return key.rpartition(".")[2]
