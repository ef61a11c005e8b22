"""Time and memory."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from src.comparison.table import Table
from src.records.record import RunRecord
from src.records.text import MISSING, byte_size, duration, show
from src.reporting.document import Picture, Section, gallery, grid
from src.reporting.material import Material, records_of
from src.reporting.sections.memory import memory_blocks

COLUMNS = (
    "table",
    "runs",
    "time in all",
    "time of a run",
    "tokens a second",
    "peak memory",
    "lanes in a pack",
    "device",
)


def cost_section(material: Material, pictures: Sequence[tuple[Picture, ...]]) -> Section:
    """A row for each table over all of its runs, failed ones too, as they cost as well; memory by part; figures."""
    rows = [_row(findings.table) for findings in material.findings]
    caption = (
        "Time of a run is its equal share of its pack's wall time in training and evaluation, from the smallest to the "
        "largest; tokens are a run's own; memory is the peak of the pack in which it trained; on "
        "a CPU it includes what the process kept of earlier packs, so methods are compared by the counted table below."
    )
    drawn = [picture for own in pictures for picture in own]
    parts = [block for findings in material.findings for block in memory_blocks(findings)]
    return Section("Time and memory", "costs", (grid(COLUMNS, rows, caption=caption), *parts, *gallery(drawn)))


def _row(table: Table) -> list[str]:
    records = [*records_of(table), *(again for cell in table.cells for again, _ in cell.repeats)]
    times = _known(record.time.get("total_s") for record in records)
    rates = _known(record.time.get("tokens_per_s") for record in records)
    packs = _known(record.time.get("pack_size") for record in records)
    peaks = _known(record.memory.get("peak_bytes") for record in records)
    return [
        table.title,
        str(len(records)),
        duration(sum(times)) if times else MISSING,
        _range([duration(min(times)), duration(max(times))]) if times else MISSING,
        _range([show(min(rates), "count"), show(max(rates), "count")]) if rates else MISSING,
        _range([byte_size(min(peaks)), byte_size(max(peaks))]) if peaks else MISSING,
        _range([show(min(packs), "count"), show(max(packs), "count")]) if packs else MISSING,
        _devices(records),
    ]


def _known(values: Iterable[float | int | None]) -> list[float]:
    return [float(value) for value in values if value is not None]


def _range(ends: list[str]) -> str:
    return ends[0] if ends[0] == ends[1] else f"{ends[0]} to {ends[1]}"


def _devices(records: Sequence[RunRecord]) -> str:
    names = {str(name) for record in records if (name := record.env.get("device_name"))}
    return ", ".join(sorted(names)) or MISSING
