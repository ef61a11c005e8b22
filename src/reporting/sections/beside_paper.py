"""The paper's tables 5, 6, 7 and 18 beside the study's own figures, and what differs between the two settings."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from statistics import fmean

from src.comparison.findings import Contender, Findings
from src.comparison.groups import at_one_budget, by_rank, plain_lora
from src.comparison.method import adapts, has_lora
from src.comparison.table import Table
from src.records.analysis import AnalysisTable
from src.records.text import MISSING, show
from src.reporting.document import Block, Bullets, Grid, Paragraph, Section, grid
from src.reporting.material import Material, records_of, spelled
from src.reporting.paper import NOTES, SOURCE, TABLE_5, TABLE_6, TABLE_6_RANKS, TABLE_7, TABLE_18, TABLE_18_RANKS

FEWEST_RANKS = 3


def paper_section(material: Material) -> Section:
    """Tables only where the study has something to set beside them; the differences in any case."""
    grids = [
        found
        for findings in material.findings
        for found in (table_5(findings), table_6(findings), table_18(findings))
        if found is not None
    ]
    amplification = material.analysis.get("amplification")
    seven = None if amplification is None else table_7(amplification, material.run_names)
    blocks: list[Block] = [*grids, *([seven] if seven else [])]
    if not blocks:
        blocks.append(Paragraph("The study has no target sets or ranks in common with the paper's tables."))
    blocks += [Paragraph(f"What differs from the paper ({SOURCE}):"), Bullets((*NOTES, *_differences(material)))]
    return Section("Paper beside yours", "paper", tuple(blocks))


def table_5(findings: Findings) -> Grid | None:
    """Matrices at one budget; None unless two target sets are shared."""
    budget, members = at_one_budget(plain_lora(findings.contenders))
    own = {contender.choice.cell.spec.lora.targets: contender for contender in members}
    if len(own.keys() & {row.targets for row in TABLE_5}) < 2:
        return None
    rows = [
        [spelled(row.targets), str(row.rank), f"{row.wikisql}", f"{row.multinli}", *_own(own.get(row.targets))]
        for row in TABLE_5
    ]
    columns = ("matrices", "paper: rank", "paper: WikiSQL", "paper: MultiNLI", "yours: rank", "yours: score")
    caption = f"Table 5 beside yours: about 18M adapter parameters there, {budget:,d} here; {_score_words(findings)}."
    return grid(columns, rows, caption=caption)


def table_6(findings: Findings) -> Grid | None:
    """Rank by target set; None unless one of the paper's target sets has two of its ranks."""
    lines = by_rank(plain_lora(findings.contenders))
    shared = [targets for targets in TABLE_6["WikiSQL"] if len(lines.get(targets, {}).keys() & {*TABLE_6_RANKS}) >= 2]
    if not shared:
        return None
    ranks = sorted({*TABLE_6_RANKS, *(rank for targets in shared for rank in lines[targets])})
    rows = []
    for targets in shared:
        for task, scores in TABLE_6.items():
            known = dict(zip(TABLE_6_RANKS, scores[targets], strict=True))
            rows.append([spelled(targets), f"paper, {task}", *_by_rank(known, ranks, 1)])
        rows.append([spelled(targets), "yours", *_own_by_rank(lines[targets], ranks)])
    caption = f"Table 6 beside yours, by rank: percent there; here {_score_words(findings)}."
    return grid(["matrices", "whose", *(f"r={rank}" for rank in ranks)], rows, text_columns=2, caption=caption)


def table_18(findings: Findings) -> Grid | None:
    """The curve over ranks; None unless some target set has three ranks."""
    lines = by_rank(plain_lora(findings.contenders))
    longest = max(lines, key=lambda targets: len(lines[targets]), default=None)
    if longest is None or len(lines[longest]) < FEWEST_RANKS:
        return None
    ranks = sorted({*TABLE_18_RANKS, *lines[longest]})
    rows = [
        [f"paper, {name}", *_by_rank(dict(zip(TABLE_18_RANKS, values, strict=True)), ranks, 2)]
        for name, values in TABLE_18.items()
    ]
    rows.append([f"yours, {spelled(longest)}", *_own_by_rank(lines[longest], ranks)])
    caption = f"Table 18 beside yours, by rank: GPT-2 medium on E2E NLG there; here {_score_words(findings)}."
    return grid(["whose", *(f"r={rank}" for rank in ranks)], rows, caption=caption)


def table_7(table: AnalysisTable, names: Mapping[str, tuple[str, int | None]]) -> Grid | None:
    """Amplification of W_q in the middle layer, mean over runs of a rank; None where no run adapts q."""
    rows = [row for row in table.rows() if row["letter"] == "q" and row["factor"] is not None]
    if not rows:
        return None
    layers = sorted({_number(row["layer"]) for row in rows})
    middle = layers[len(layers) // 2]
    keys = ("along_dw", "along_w", "along_random", "dw_norm", "factor")
    lines = [["paper, layer 48", str(row.rank), *(f"{getattr(row, key):.3g}" for key in keys)] for row in TABLE_7]
    at_middle = [row for row in rows if row["layer"] == middle]
    for rank in sorted({_number(row["rank"]) for row in at_middle}):
        members = [row for row in at_middle if row["rank"] == rank]
        sets = " and ".join(sorted({names[run][0] for row in members if (run := str(row["run"])) in names}))
        means = [fmean(_number(row[key]) for row in members if row[key] is not None) for key in keys]
        label = f"yours, layer {middle:g}" + (f" ({sets})" if sets else "")
        lines.append([label, f"{rank:g}", *(f"{mean:.3g}" for mean in means)])
    columns = ("whose", "r", "along dW", "along W", "along random", "||dW||", "amplification")
    caption = (
        "Table 7 beside yours: ||U^T W_q V^T||_F with U, V the top r singular directions of dW_q, of W_q and of a "
        "random matrix; amplification is ||dW_q||_F over the first. Layers count from 0."
    )
    return grid(columns, lines, caption=caption)


def _number(value: object) -> float:
    assert isinstance(value, int | float)
    return float(value)


def _score(contender: Contender) -> float:
    return (contender.test or contender.validation).mean


def _own(contender: Contender | None) -> list[str]:
    if contender is None:
        return [MISSING, MISSING]
    return [show(contender.choice.cell.rank, "count"), show(_score(contender), "score")]


def _by_rank(values: Mapping[int, float], ranks: Iterable[int], digits: int) -> list[str]:
    return [f"{values[rank]:.{digits}f}" if rank in values else MISSING for rank in ranks]


def _own_by_rank(line: Mapping[int, Contender], ranks: Iterable[int]) -> list[str]:
    return [show(_score(line[rank]), "score") if rank in line else MISSING for rank in ranks]


def _score_words(findings: Findings) -> str:
    split = "test" if any(contender.test for contender in findings.contenders) else "validation"
    return f"{split} {findings.table.metric}, {findings.table.model} on {findings.table.task}"


def _differences(material: Material) -> list[str]:
    return [sentence for findings in material.findings for sentence in _setting(findings.table)]


def _setting(table: Table) -> list[str]:
    records = records_of(table)
    specs = [record.run_spec() for record in records]
    base = _span([record.params.base for record in records if record.params.base is not None])
    head = any(record.params.head for record in records)
    trained = sorted({_examples(record.data) for record in records} - {""})
    adapted = [spec for spec in specs if adapts(spec)]
    rates = sorted({spec.optim.lr for spec in adapted})
    steps = [spec.trainer.max_steps for spec in specs if spec.trainer.max_steps is not None]
    length = _counted(steps, "step") if steps else _counted([spec.trainer.epochs for spec in specs], "epoch")
    return [
        f"Here {table.model}{f' ({base} parameters)' if base else ''} on {table.task}, {table.metric}, trained for "
        f"{length} of {' or '.join(trained) or 'its'} training examples, batch size "
        f"{_span([spec.trainer.batch_size for spec in specs])}, at most "
        f"{_span([spec.task.max_length for spec in specs])} tokens, "
        f"alpha {_span([spec.lora.alpha for spec in adapted if has_lora(spec)]) or MISSING}, "
        f"{_counted([len({spec.seed for spec in specs})], 'seed')}.",
        f"The learning rate is chosen on validation for each configuration, from {', '.join(f'{r:g}' for r in rates)}."
        if len(rates) > 1
        else f"One learning rate for every configuration{f', {rates[0]:g}' if rates else ''}.",
        *(["A task head is trained too, alike in all cells, and not counted as adapter parameters."] if head else []),
    ]


def _span(values: Sequence[float]) -> str:
    """``16``, or ``16 to 64``."""
    if not values:
        return ""
    ends = [f"{value:,d}" if isinstance(value, int) else f"{value:g}" for value in (min(values), max(values))]
    return ends[0] if ends[0] == ends[1] else f"{ends[0]} to {ends[1]}"


def _counted(values: Sequence[int], noun: str) -> str:
    return f"{_span(values)} {noun}{'' if max(values) == 1 else 's'}"


def _examples(data: Mapping[str, object]) -> str:
    splits = data.get("splits")
    train = splits.get("train") if isinstance(splits, Mapping) else None
    number = train.get("examples") if isinstance(train, Mapping) else None
    return f"{number:,d}" if isinstance(number, int) else ""
