from __future__ import annotations

import json
import threading
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from src.errors import WriteError
from src.records import atomic_path, write_bytes_atomic, write_json_atomic
from tests.full_disk import files_at_most


def test_the_folder_is_made_and_nothing_but_the_file_is_in_it(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "value.json"
    write_json_atomic(path, {"x": [1, 2.5, None, "ä"]})
    assert json.loads(path.read_text()) == {"x": [1, 2.5, None, "ä"]}
    assert list(path.parent.iterdir()) == [path]


def test_permissions_are_those_of_an_ordinary_file(tmp_path: Path) -> None:
    write_bytes_atomic(tmp_path / "ours", b"x")
    (tmp_path / "plain").write_bytes(b"x")
    assert (tmp_path / "ours").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_a_block_that_fails_leaves_the_old_file_alone(tmp_path: Path) -> None:
    path = tmp_path / "value.json"
    write_json_atomic(path, "old")
    with pytest.raises(KeyboardInterrupt), atomic_path(path) as temporary:
        temporary.write_text("half")
        raise KeyboardInterrupt
    assert json.loads(path.read_text()) == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_full_disk_is_named_and_leaves_nothing(tmp_path: Path) -> None:
    path = tmp_path / "value.json"
    write_json_atomic(path, "old")
    with pytest.raises(WriteError, match="File too large") as caught, files_at_most(10_000):
        write_bytes_atomic(path, b"x" * 100_000)
    assert str(tmp_path) in str(caught.value)
    assert json.loads(path.read_text()) == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_full_disk_that_safetensors_meets_is_the_same_error(tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    with (
        pytest.raises(WriteError, match=r"weights\.safetensors"),
        files_at_most(10_000),
        atomic_path(path) as temporary,
    ):
        save_file({"A": np.zeros(100_000, dtype=np.float32)}, temporary)
    assert list(tmp_path.iterdir()) == []


def test_a_file_in_the_place_of_the_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "runs").write_text("not a folder")
    with pytest.raises(WriteError, match="runs"):
        write_json_atomic(tmp_path / "runs" / "value.json", 1)


@pytest.mark.parametrize("number", [float("nan"), float("inf"), -float("inf")])
def test_numbers_that_are_not_finite_are_refused(tmp_path: Path, number: float) -> None:
    with pytest.raises(ValueError, match="JSON compliant"):
        write_json_atomic(tmp_path / "value.json", {"loss": number})
    assert list(tmp_path.iterdir()) == []


def test_a_reader_never_meets_half_a_file(tmp_path: Path) -> None:
    path = tmp_path / "value.json"
    values = [["a"] * 20_000, ["b"] * 10]
    write_json_atomic(path, values[0])
    seen: list[bool] = []

    def write() -> None:
        for turn in range(60):
            write_json_atomic(path, values[turn % 2])

    writer = threading.Thread(target=write)
    writer.start()
    while writer.is_alive():
        seen.append(json.loads(path.read_text()) in values)
    writer.join()
    assert seen and all(seen)
