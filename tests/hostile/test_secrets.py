"""Keys and passwords are in nothing that a run leaves: files, logs, records, W&B's own files, what is printed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from src.errors import ConfigError, brief, hide_secrets
from tests.experiment.workplace import Workplace, build

ROOT = Path(__file__).resolve().parents[2]
KEY, TOKEN = "5ec2e7" * 6 + "abcd", "hf_PlantedTokenOfThisTest"
PASSWORDS = ("netrcPassw0rd", "urlPassw0rd", "hubPassw0rd")
SECRETS = (KEY, TOKEN, *PASSWORDS)


def run(place: Workplace, root: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """The command of a person with keys in the environment, a password in netrc and in two addresses."""
    home = root / "home"
    home.mkdir(exist_ok=True)
    (home / ".netrc").write_text(f"machine 127.0.0.1\n  login user\n  password {PASSWORDS[0]}\n")
    secrets = {
        "WANDB_API_KEY": KEY,
        "HF_TOKEN": TOKEN,
        "NETRC": str(home / ".netrc"),
        "HOME": str(home),
        "WANDB_BASE_URL": f"http://user:{PASSWORDS[1]}@127.0.0.1:9",
        "HF_ENDPOINT": f"http://user:{PASSWORDS[2]}@127.0.0.1:9",
    }
    fixed = [
        f"output_dir={root / 'outputs'}",
        f"cache_dir={place.cache}",
        "tracking=wandb",
        "tracking.init_timeout_s=3",
        "tracking.finish_timeout_s=3",
    ]
    env = {**os.environ, **secrets, **environment}
    command = [sys.executable, "-m", "src.train", *arguments, *fixed]
    return subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=False)


def found_in(root: Path) -> list[str]:
    """Files below a folder that hold a secret, plainly or as W&B and zip files keep text; not the netrc file."""
    files = [path for path in root.rglob("*") if path.is_file() and path.name != ".netrc"]
    assert len(files) > 3
    return [f"{path}: {secret[:6]}" for path in files for secret in SECRETS if secret.encode() in path.read_bytes()]


def test_the_search_finds_what_is_planted(tmp_path: Path) -> None:
    for number in range(6):
        (tmp_path / f"{number}.json").write_text("{}")
    assert found_in(tmp_path) == []
    (tmp_path / "deep.wandb").write_bytes(b"\0\1" + KEY.encode() + b"\2")
    assert len(found_in(tmp_path)) == 1


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["online", "offline"])
def test_a_run_leaves_no_secret(mode: str, tmp_path: Path) -> None:
    place = build(tmp_path)
    own = [
        f"model.path={place.model}",
        "task=own",
        f"task.path={place.data}",
        "task.max_length=16",
        "trainer.max_steps=3",
    ]
    result = run(place, tmp_path, "-m", *own, "lora.rank=1,2", f"tracking.mode={mode}")
    assert result.returncode == 0, result.stderr
    assert not any(secret in result.stdout + result.stderr for secret in SECRETS)
    assert len(list((tmp_path / "outputs").glob("*/runs/*/record.json"))) == 2
    assert len(list((tmp_path / "outputs").glob("*/runs/*/wandb/*run-*"))) == 2
    assert found_in(tmp_path) == []


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["model.path=owner/name"], 1),
        (["task.path=owner/name", "task=own"], 1),
        ([f"task.path=https://user:{PASSWORDS[1]}@127.0.0.1:9/x.csv", "task=own"], 2),
        ([f"model.path=https://user:{PASSWORDS[1]}@127.0.0.1:9/x"], 2),
        ([f"study={KEY}"], 2),
        (["-m", "seed=1,2", f"tracking.entity={TOKEN}"], 2),
        (["study=${oc.env:WANDB_API_KEY}"], 2),
        (["tracking.project=${oc.env:HF_TOKEN}"], 2),
    ],
    ids=str,
)
def test_errors_name_no_secret(arguments: list[str], code: int, tmp_path: Path) -> None:
    place = build(tmp_path)
    result = run(place, tmp_path, *arguments, HF_HUB_OFFLINE="0", HF_DATASETS_OFFLINE="0", HYDRA_FULL_ERROR="1")
    assert result.returncode == code, result.stderr
    assert not any(secret in result.stdout + result.stderr for secret in SECRETS)
    assert found_in(tmp_path) == []


def test_messages_hide_what_the_environment_and_addresses_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    text = f"GET https://me:{PASSWORDS[1]}@host/x with {KEY} at a/b@c and https://host/@x"
    assert hide_secrets(text) == "GET https://***@host/x with *** at a/b@c and https://host/@x"
    long = f"{'x' * 190}https://me:{PASSWORDS[1]}@host"
    assert PASSWORDS[1][:3] not in str(ConfigError("task.path", long, "a file"))
    assert brief("a\nb") == "a b"
