from __future__ import annotations

import subprocess
from itertools import product

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser

from src.config import to_spec
from src.config.compose import compose_config
from src.records import RunRecord
from src.reporting.sections.reproduce import commands, hydra_value
from src.spec import run_id
from tests.plots.studies import grid_of_runs
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
