from __future__ import annotations

import subprocess
from itertools import product
from typing import Any

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser

from src.config import to_spec
from src.config.compose import compose_config
from src.records import RunRecord
from src.reporting.sections.reproduce import commands, hydra_value
from src.spec import FrozenMap, run_id
from tests.plots.studies import grid_of_runs, methods_at_one_budget
from tests.record_factory import make_record, make_spec


def reproduced(records: list[RunRecord]) -> set[str]:
    """Run ids of all cells that the printed commands would run, as a shell takes them apart."""
    parser, found = OverridesParser.create(), set()
    for command in commands(records, "a study"):
        printed = subprocess.run(
            ["bash", "-c", f"printf '%s\\0' {command}"], capture_output=True, text=True, check=True
        )
        words = printed.stdout.split("\0")[:-1]
        assert words[:5] == ["python", "-m", "src.train", "-m", "study=a study"]
        axes = []
        for override in parser.parse_overrides(words[5:]):
            values = list(override.sweep_string_iterator()) if override.is_sweep_override() else None
            axes.append([f"{override.key_or_group}={v}" for v in values] if values else [override.input_line or ""])
        found |= {run_id(to_spec(compose_config(cell))) for cell in product(*axes)}
    return found


def test_the_commands_give_the_same_runs() -> None:
    records = grid_of_runs(("q", "qkvo"), (1, 8), seeds=1, rates=2)
    assert reproduced(records) == {record.run_id for record in records}


def test_budgets_and_ranks_are_two_commands() -> None:
    records = [
        make_record(make_spec("qv", 4, lora__dropout=0.1)),
        make_record(make_spec("q", None, lora__budget=9216, lora__layers="0-3")),
        make_record(make_spec("qv", None, lora__budget=9216, lora__layers="0-3")),
    ]
    assert len(commands(records, "s")) == 2
    assert reproduced(records) == {record.run_id for record in records}


def test_each_method_is_a_command_of_its_own_and_gives_its_runs() -> None:
    records = methods_at_one_budget(seeds=1)
    printed = commands(records, "s")
    assert len(printed) == 12
    assert reproduced(records) == {record.run_id for record in records}
    assert not any("task.generate" in command or "lora.stacks" in command for command in printed)


def test_sizes_ranks_by_matrix_and_projections_come_back() -> None:
    own = FrozenMap(q="encoder.{i}.attention.query", v="encoder.{i}.attention.value")
    changes: list[dict[str, Any]] = [
        {"method__name": "adapter_h", "method__size": 8},
        {"method__name": "adapter_h", "method__size": 16},
        {"method__name": "random_subspace", "method__size": 64, "method__said": False},
        {"method__name": "lora_prefix", "method__size": 4},
        {"lora__ranks": FrozenMap({"q": 4, "v/0-2": 16})},
        {"lora__ranks": FrozenMap({"3": 2})},
        {"lora__dora": True, "lora__rslora": True},
        {"model__path": "/models/mine", "model__projections": own},
        {"task__kind": "seq2seq", "task__metric": "loss", "task__prompt": "{a}", "task__completion": "{b}",
         "task__generate": True, "task__beams": 4, "lora__stacks": "decoder+cross"},
    ]  # fmt: skip
    for each in changes:
        record = make_record(make_spec("qv", 8, **each))
        assert reproduced([record]) == {record.run_id}
    ranks = [make_record(make_spec("qv", 8, **each)) for each in changes[4:6]]
    assert reproduced(ranks) == {record.run_id for record in ranks}


def test_text_that_hydra_would_read_otherwise_is_quoted() -> None:
    odd = {
        "task__kind": "causal_lm",
        "task__metric": "loss",
        "task__prompt": "say \"{source}\", 'then': a=b [x]\\\n# ",
        "task__completion": "null",
        "task__path": "/data/with blanks/$HOME, and commas.csv",
        "model__revision": "1e3",
    }
    records = [make_record(make_spec("qv", 4, **odd))]  # type: ignore[arg-type]
    assert reproduced(records) == {records[0].run_id}


ODD = ["plain", "a b", "null", "True", "12", 'q"uote', "back\\", '\\"', "a,b", "$x", "{a}\n# ", "\t", "é", ""]


@pytest.mark.parametrize("value", ODD)
def test_hydra_reads_back_what_was_written(value: str) -> None:
    parsed = OverridesParser.create().parse_override(f"key={hydra_value(value)}").value()
    assert (parsed if isinstance(parsed, str) else getattr(parsed, "text", parsed)) == value
