"""The real command on the real default model and data, for a few steps."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModel

from tests.tracking.wandb_file import read_runs

pytestmark = pytest.mark.assets
ROOT = Path(__file__).resolve().parents[1]
FEW = ["trainer.max_steps=3", "task.train_size=60", "task.validation_size=40", "task.test_size=40", "device=cpu"]
# Width and layers of MiniLM: an adapter of rank 1 on one square matrix has 2 x 384 parameters in each of 6 layers.
UNIT = 6 * 2 * 384


def train(*arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("WANDB_")}
    command = [sys.executable, "-m", "src.train", *arguments]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)


def records_of(output: Path) -> dict[str, dict[str, Any]]:
    """By targets and rank."""
    records = [json.loads(path.read_text()) for path in output.glob("minilm-r52/runs/*/record.json")]
    return {f"{r['spec']['lora']['targets']}-{r['params']['rank']}": r for r in records}


def table_of(output: Path) -> list[dict[str, str]]:
    return list(csv.DictReader((output / "minilm-r52" / "report" / "table.csv").read_text().splitlines()))


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, subprocess.CompletedProcess[str]]:
    """Output folder and result of a sweep of ranks and matrices, tracked offline."""
    output = tmp_path_factory.mktemp("sweep")
    axes = ["-m", "lora.rank=1,4", "lora.targets=qv,none", "trainer.dtype=float32", "tracking.mode=offline"]
    return output, train(*axes, *FEW, f"output_dir={output}")


def test_a_sweep_of_ranks_and_matrices(sweep: tuple[Path, subprocess.CompletedProcess[str]]) -> None:
    output, result = sweep
    assert result.returncode == 0, result.stderr
    records = records_of(output)
    assert records.keys() == {"qv-1", "qv-4", "none-None"}  # without adapters the rank means nothing: one cell, not two
    assert {name: record["params"]["adapter"] for name, record in records.items()} == {
        "qv-1": 2 * UNIT, "qv-4": 8 * UNIT, "none-None": 0
    }  # fmt: skip
    for record in records.values():
        assert record["status"] == "completed"
        assert record["params"]["base"] == 22_713_216
        assert record["params"]["head"] == 52 * 384 + 52
        assert [point["step"] for point in record["metrics"]["history"]] == [3]
        assert record["data"]["splits"]["train"]["examples"] == 60
        folder = output / "minilm-r52" / "runs" / record["run_id"]
        assert record["tracking"]["backend"] == "wandb"
        (tracked,) = read_runs(folder, "offline-run")
        assert tracked.run.run_id == record["tracking"]["id"]
        assert tracked.run.run_group == "minilm-r52"
        assert tracked.summary["test/accuracy"] == pytest.approx(record["metrics"]["test"]["accuracy"])
        assert tracked.exit_code == 0
        if record["params"]["adapter"]:
            check_with_peft(folder, record)
    (summary,) = read_runs(output / "minilm-r52", "offline-run")
    assert (summary.run.job_type, summary.run.run_group) == ("summary", "minilm-r52")
    assert {"tables/table", "figures/score-by-rank"} <= summary.summary.keys()
    assert len(table_of(output)) == 3
    assert "Best by validation accuracy: " in result.stdout
    assert "Traceback" not in result.stderr


def check_with_peft(folder: Path, record: dict[str, Any]) -> None:
    """The saved adapter fits the plain model and moves it; its size is that of the record."""
    source = json.loads((folder / "adapter" / "adapter_config.json").read_text())["base_model_name_or_path"]
    plain = AutoModel.from_pretrained(source).eval()
    ids = torch.tensor([[101, 2054, 2003, 102]])
    with torch.no_grad():
        before = plain(input_ids=ids).last_hidden_state
        after = peft.PeftModel.from_pretrained(plain, folder / "adapter")(input_ids=ids).last_hidden_state
    assert 0 < (before - after).abs().max() < 1
    sizes = [tensor.numel() for tensor in load_file(folder / "adapter" / "adapter_model.safetensors").values()]
    assert sum(sizes) == record["params"]["adapter"]


def test_one_budget_buys_the_same_for_every_set_of_matrices(tmp_path: Path) -> None:
    budget = 8 * UNIT
    result = train(
        "-m", f"lora.budget={budget}", "lora.targets=q,kv,qkvo", *FEW, f"output_dir={tmp_path}", "tracking=none"
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    params = {name: record["params"] for name, record in records_of(tmp_path).items()}
    assert params.keys() == {"q-8", "kv-4", "qkvo-2"}
    for counted in params.values():
        assert counted["adapter"] == budget
        assert counted["budget"] == {"requested": budget, "achieved": budget, "residual": 0}


def test_hydras_own_launcher_comes_to_the_same(
    sweep: tuple[Path, subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    """Solo instead of packed, so equal up to rounding; nothing else of a study depends on the launcher."""
    axes = ["-m", "hydra/launcher=basic", "lora.rank=1,4", "trainer.dtype=float32", "tracking=none"]
    result = train(*axes, *FEW, f"output_dir={tmp_path}")
    assert result.returncode == 0, result.stderr
    basic, lanes = records_of(tmp_path), records_of(sweep[0])
    assert basic.keys() == {"qv-1", "qv-4"}
    for name, record in basic.items():
        assert record["run_id"] == lanes[name]["run_id"]
        assert (record["time"]["pack_size"], lanes[name]["time"]["pack_size"]) == (1, 3)
        assert record["metrics"]["test"] == pytest.approx(lanes[name]["metrics"]["test"], abs=1e-3)
    assert len(table_of(tmp_path)) == 2
