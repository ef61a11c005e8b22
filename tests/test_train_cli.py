"""The front door, as a person meets it: real processes, their messages, exit codes and what they leave behind."""

from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
TINY = ["tracking=none", "trainer.max_steps=1", "task.train_size=104", "task.validation_size=52", "task.test_size=52"]
Result = subprocess.CompletedProcess[str]


def train(*arguments: str, module: str = "src.train", **environment: str) -> Result:
    """Run the command; warnings and logs of Python itself included."""
    env = {name: value for name, value in os.environ.items() if name != "HYDRA_FULL_ERROR"} | environment
    command = [sys.executable, "-m", module, *arguments]
    return subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=False)


def records(output_dir: Path) -> list[str]:
    return sorted(path.parent.name.rpartition("-")[0] for path in output_dir.glob("*/runs/*/record.json"))


def test_bad_cells_stop_a_sweep_before_it_starts(tmp_path: Path) -> None:
    result = train("-m", "lora.rank=0,8", "lora.targets=qv,xq", "optim.lr=1e-3", f"output_dir={tmp_path}")
    assert result.returncode == 2
    assert result.stdout == ""
    assert result.stderr.splitlines() == [
        "Nothing was started: 3 of 4 cells cannot be run.",
        "  lora.rank=0 lora.targets=qv: lora.rank is 0; allowed: a whole number of at least 1, at most the matrix's "
        "smaller side.",
        "  2 cells, such as lora.rank=0 lora.targets=xq: lora.targets is 'xq'; allowed: letters of qkvougd in any "
        "order, each once (qv, qkvo), or one of none, attn, mlp, all.",
    ]
    assert [path.name for path in tmp_path.iterdir()] == [".hydra"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["lora.rank=8", "lora.budget=4608"], "lora.rank and lora.budget"),
        (["-m", "lora.rank=1,2", "lora.foo=1"], "There is no key lora.foo. Keys there: targets, rank, budget,"),
        (["-m", "lora.rank=1,abc"], "lora.rank is 'abc'; allowed: a whole number, or null."),
        (["lora.rank=1,8"], "lora.rank=1,8 lists several values; add -m to sweep over them, or quote the value."),
        (["model=nope"], "model is 'nope'; allowed: bart_base, clip_vision, gpt2, gpt2_medium, minilm, roberta_base,"),
    ],
)
def test_wrong_configs_exit_with_2_and_one_line(arguments: list[str], message: str, tmp_path: Path) -> None:
    result = train(*arguments, f"output_dir={tmp_path}")
    assert result.returncode == 2
    assert result.stderr.startswith(message)
    assert result.stderr.count("\n") == 1


def test_a_sweep_file_sweeps_by_itself_and_gives_way_to_the_command_line(tmp_path: Path) -> None:
    result = train("+sweep=grid", "lora.rank=0", f"output_dir={tmp_path}")
    assert result.returncode == 2
    assert "2 of 2 cells" in result.stderr
    assert "2 of 2 cells cannot be run.\n  all cells: lora.rank is 0" in result.stderr


def test_traceback_on_request_only(tmp_path: Path) -> None:
    result = train("lora.rank=0", f"output_dir={tmp_path}", HYDRA_FULL_ERROR="1")
    assert result.returncode == 2
    assert "Traceback" in result.stderr
    assert result.stderr.splitlines()[-1].startswith("lora.rank is 0; allowed")


def test_unwritable_output_is_told_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    result = train(f"output_dir={tmp_path}/file/x")
    assert result.returncode == 1
    assert "Not a directory" in result.stderr
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize("arguments", [["--help"], ["--cfg", "job", "lora.budget=4608", "--resolve"]])
def test_looking_at_the_config_loads_no_torch(arguments: list[str]) -> None:
    result = train(*arguments, PYTHONPROFILEIMPORTTIME="1")
    assert result.returncode == 0
    assert "targets: qv" in result.stdout
    imported = {line.rpartition("|")[2].strip() for line in result.stderr.splitlines()}
    assert "hydra" in imported
    assert imported.isdisjoint({"torch", "transformers", "datasets", "wandb", "pandas", "submitit"})


def test_a_reader_that_stops_early_is_no_error() -> None:
    command = [sys.executable, "-m", "src.train", "--help"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, bufsize=0) as process:
        assert process.stdout is not None and process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""


def test_shell_completion_offers_options() -> None:
    result = train("-sc", "query=bash", COMP_LINE="train model=")
    assert result.returncode == 0
    assert {"model=minilm", "model=smollm2"} <= set(result.stdout.split())


def test_simultaneous_starts_have_folders_of_their_own(tmp_path: Path) -> None:
    with ThreadPoolExecutor(2) as pool:
        results = list(pool.map(lambda rank: train(f"lora.rank={rank}", f"output_dir={tmp_path}"), (0, -1)))
    assert [result.returncode for result in results] == [2, 2]
    assert len(list((tmp_path / ".hydra").iterdir())) == 2


def test_fetch_takes_the_same_overrides() -> None:
    assert train("task=nope", module="src.fetch").returncode == 2
    result = train("--help", module="src.fetch")
    assert result.returncode == 0
    assert "python -m src.fetch" in result.stdout


@pytest.mark.assets
def test_fetch_says_what_lies_where(cache_dir: Path) -> None:
    result = train(*TINY, module="src.fetch")
    assert result.returncode == 0, result.stderr
    model, task = result.stdout.splitlines()
    assert model.startswith("model asset:minilm: 22,713,216 parameters, in ")
    assert Path(model.rpartition(" in ")[2]).is_dir()
    assert task == f"task asset:r52: 104 train, 52 validation, 52 test examples, in {cache_dir}"


@pytest.mark.assets
def test_a_study_that_cannot_run_does_not_stop_the_others(tmp_path: Path) -> None:
    missing = tmp_path / "no-such-model"
    result = train("-m", f"model.path={missing},asset:minilm", "lora.rank=1,2", *TINY, f"output_dir={tmp_path}")
    assert result.returncode == 1
    assert records(tmp_path) == ["qv-r1-a16-lr0.002-s0", "qv-r2-a16-lr0.002-s0"]
    assert str(missing) in result.stderr.splitlines()[-1]
    assert "Traceback" not in result.stderr


@pytest.mark.assets
def test_cells_that_do_not_fit_their_model_stop_all_studies(tmp_path: Path) -> None:
    result = train(
        "-m", "lora.rank=1,999", "task.max_length=16,32", "study=${task.max_length}", f"output_dir={tmp_path}"
    )
    assert result.returncode == 2
    assert records(tmp_path) == []
    assert "2 cells, such as 16, " in result.stderr
    assert result.stderr.count("lora.rank is 999; allowed: 1 to 384") == 1


@pytest.mark.slow
@pytest.mark.assets
def test_basic_launcher_finishes_the_other_jobs(tmp_path: Path) -> None:
    rates = ("optim.lr=1e30,2e-3", "optim.clip=null")
    result = train("-m", "hydra/launcher=basic", "lora.rank=1", *rates, *TINY, f"output_dir={tmp_path}")
    assert result.returncode == 1
    assert records(tmp_path) == ["qv-r1-a16-lr0.002-s0", "qv-r1-a16-lr1e+30-s0"]
    assert "1 of 2 cells of the study minilm-r52 did not complete" in result.stderr.splitlines()[-1]
    assert "Traceback" not in result.stderr
