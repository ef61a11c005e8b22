"""How to do it again: commands with every setting, seeds, versions, commit, data, dates."""

from __future__ import annotations

import re
import shlex
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from src.comparison.cells import LATER_DEFAULTS, fields_of, settings_of
from src.comparison.findings import Findings
from src.comparison.method import adapts, method_of
from src.records.record import RunRecord
from src.records.text import MISSING, Value
from src.reporting.document import Block, Code, Paragraph, Section, grid
from src.reporting.material import Material, follow_up, records_of
from src.spec import RunSpec

AXES = ("lora.targets", "lora.rank", "lora.ranks", "lora.budget", "method.size", "optim.lr", "seed")
LINE = 100
# What needs no quotes in Hydra's grammar of overrides.
PLAIN = re.compile(r"(?!(null|true|false|inf|nan)$)[A-Za-z][\w./:@-]*", re.IGNORECASE)


def reproduce_section(material: Material) -> Section:
    """Commands for each table, then what they ran on."""
    if not material.study.records:
        return Section("Reproduce", "reproduce", (Paragraph("Nothing has been recorded yet."),))
    blocks: list[Block] = [
        Paragraph(
            "Every setting that can change a result is spelt out, the axes first. The same commands again continue the "
            "study: what is complete is skipped."
        )
    ]
    for findings in material.findings:
        blocks += _table_commands(findings, material)
    report = f"{follow_up('report', material)} --within {_margin(material)}"
    blocks.append(Code(f"{follow_up('analyze', material)}\n{report}"))
    blocks.append(grid(("what", "value"), _facts(material), text_columns=2))
    return Section("Reproduce", "reproduce", tuple(blocks))


def commands(records: Iterable[RunRecord], study: str) -> list[str]:
    """Command lines that give the runs of one table, and perhaps more: one for each method, by rank, by budget."""
    return [shell(study, overrides(specs)) for specs in _kinds(records)]


def overrides(specs: Sequence[RunSpec]) -> list[str]:
    """Hydra overrides for all settings, values that differ as a comma-separated axis, axes first."""
    values: dict[str, list[Any]] = defaultdict(list)
    for spec in specs:
        for key, value in (settings_of(spec) | {"lora.targets": spec.lora.targets}).items():
            if value not in values[key]:
                values[key].append(value)
    told = [key for key, seen in values.items() if key not in LATER_DEFAULTS or seen != [LATER_DEFAULTS[key]]]
    keys = sorted(told, key=lambda key: (len(values[key]) == 1, key not in AXES))
    return [f"{key}={','.join(hydra_value(value) for value in _in_order(values[key]))}" for key in keys]


def hydra_value(value: Value | Mapping[str, Any]) -> str:
    """As Hydra's grammar of overrides reads it back."""
    if value is None:
        return "null"
    if isinstance(value, Mapping):
        return f"{{{','.join(f'{key}:{hydra_value(item)}' for key, item in value.items())}}}"
    if isinstance(value, str) and not PLAIN.fullmatch(value):
        escaped = re.sub(r'(\\*)(")', r"\1\1\\\2", value)
        trailing = len(escaped) - len(escaped.rstrip("\\"))
        return f'"{escaped}{chr(92) * trailing}"'
    return str(value)


def shell(study: str, settings: Sequence[str]) -> str:
    """One command over several lines."""
    lines = [f"python -m src.train -m study={shlex.quote(study)}"]
    for setting in map(shlex.quote, settings):
        if len(lines) == 1 or len(lines[-1]) + len(setting) > LINE:
            lines.append(f"   {setting}")
        else:
            lines[-1] += f" {setting}"
    return " \\\n".join(lines)


def _kinds(records: Iterable[RunRecord]) -> list[list[RunSpec]]:
    """Runs that one command can give: of one method, with ranks, with one choice of ranks by matrix, with a budget."""
    kinds: dict[tuple[Any, ...], list[RunSpec]] = defaultdict(list)
    for record in records:
        spec = record.run_spec()
        ranks = "" if spec.lora.ranks is None else str(fields_of(spec)["lora.ranks"])
        kinds[not adapts(spec), method_of(spec), spec.lora.budget is not None, ranks].append(spec)
    return [kinds[key] for key in sorted(kinds)]


def _table_commands(findings: Findings, material: Material) -> list[Block]:
    blocks: list[Block] = [] if material.single else [Paragraph(f"{findings.table.title}:")]
    for specs in _kinds(records_of(findings.table)):
        settings = overrides(specs)
        blocks.append(Code(shell(material.tables.study, [*settings, *_folder(material)])))
        product = _product(specs)
        if product > len(specs):
            blocks.append(Paragraph(f"This grid has {product} runs, of which the study has {len(specs)}."))
    return blocks


def _folder(material: Material) -> list[str]:
    return [] if material.output_dir is None else [f"output_dir={hydra_value(material.output_dir)}"]


def _product(specs: Sequence[RunSpec]) -> int:
    values: dict[str, set[Value]] = defaultdict(set)
    for spec in specs:
        for key, value in fields_of(spec).items():
            values[key].add(value)
    product = 1
    for seen in values.values():
        product *= len(seen)
    return product


def _in_order(values: Sequence[Any]) -> list[Any]:
    """Numbers by size, everything else as found."""
    if all(isinstance(value, int | float) for value in values):
        return sorted(values, key=float)
    return list(values)


def _margin(material: Material) -> str:
    return f"{material.findings[0].margin:g}" if material.findings else "0.01"


def _facts(material: Material) -> list[list[str]]:
    records = material.study.records
    environments = [record.env for record in records]
    facts = {
        "runs": str(len(records)),
        "seeds": _listed(sorted({record.run_spec().seed for record in records})),
        "commit": _listed(_commits(environments)),
        "device": _listed(_values(environments, "device_name")),
        "precision of the base": _listed(_values(environments, "dtype")),
        "threads": _listed(_values(environments, "threads")),
        "platform": _listed(_values(environments, "platform")),
        "versions": _listed(_versions(environments)),
        "data, SHA-256": _listed(_data(records)),
        "records written": _dates(material),
    }
    return [[name, value] for name, value in facts.items()]


def _commits(environments: Iterable[Mapping[str, object]]) -> list[str]:
    found = set()
    for environment in environments:
        git = environment.get("git")
        if isinstance(git, Mapping) and git.get("commit"):
            found.add(f"{git['commit']}{' with uncommitted changes' if git.get('dirty') else ''}")
    return sorted(found)


def _values(environments: Iterable[Mapping[str, object]], key: str) -> list[str]:
    return sorted({str(value) for environment in environments if (value := environment.get(key)) is not None})


def _versions(environments: Iterable[Mapping[str, object]]) -> list[str]:
    found: dict[str, set[str]] = defaultdict(set)
    for environment in environments:
        versions = environment.get("versions")
        for package, version in (versions if isinstance(versions, Mapping) else {}).items():
            found[str(package)].add(str(version))
    return [f"{package} {' or '.join(sorted(versions))}" for package, versions in found.items()]


def _data(records: Iterable[RunRecord]) -> list[str]:
    pairs = {(str(r.data.get("path") or "data"), str(r.data["sha256"])) for r in records if r.data.get("sha256")}
    return [f"{path}: {digest}" for path, digest in sorted(pairs)]


def _dates(material: Material) -> str:
    if material.written is None:
        return MISSING
    first, last = (f"{time:%Y-%m-%d %H:%M} UTC" for time in material.written)
    return first if first == last else f"{first} to {last}"


def _listed(values: Sequence[object]) -> str:
    return ", ".join(map(str, values)) or MISSING
