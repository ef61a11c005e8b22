"""Many starts in one moment, on one output folder and one cold cache: nothing of one ends up with another."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from tests.experiment.workplace import Workplace, build
from tests.faults.child import start_command
from tests.neighbours.sweep import STUDY, arguments, records, tensors


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Workplace:
    return build(tmp_path_factory.mktemp("place"))


@pytest.mark.parametrize("number", [4, pytest.param(100, marks=pytest.mark.slow)])
def test_simultaneous_starts_keep_apart(place: Workplace, tmp_path: Path, number: int) -> None:
    output, cache = tmp_path / "out", tmp_path / "cache"

    def command(seed: int) -> list[str]:
        whole = arguments(place, output, 1, "pack=1", f"cache_dir={cache}")
        return [word for word in whole if word != "-m" and not word.startswith("seed=")] + [f"seed={seed}"]

    started = [start_command(command(seed), tmp_path / f"{seed}.txt") for seed in range(number)]
    codes = [child.wait(900.0) for child in started]
    assert codes == [0] * number, [child.text for child, code in zip(started, codes, strict=True) if code][:3]

    found = records(output)
    assert sorted(found) == list(range(number))
    assert all(record["status"] == "completed" for record in found.values())
    assert len(tensors(output)) == 3 * number
    # What Hydra writes of each start: its own folder, with its own seed.
    folders = [folder for folder in (output / ".hydra").iterdir() if folder.is_dir()]
    seeds = [yaml.safe_load((folder / "config.yaml").read_text())["seed"] for folder in folders]
    assert sorted(seeds) == list(range(number))
    unfinished = [path for root in (output, cache) for path in root.rglob(".*.tmp")]
    assert unfinished == []
    assert all(path.stat().st_size == 0 for path in (output / STUDY / ".claims").iterdir())
