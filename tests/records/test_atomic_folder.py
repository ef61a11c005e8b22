from __future__ import annotations

from pathlib import Path

import pytest

from src.errors import WriteError
from src.records import atomic_folder, write_json_atomic


def test_a_folder_appears_with_all_its_files(tmp_path: Path) -> None:
    path = tmp_path / "checkpoints" / "step-1"
    with atomic_folder(path) as scratch:
        write_json_atomic(scratch / "a.json", 1)
        assert not path.exists()
    assert [file.name for file in path.iterdir()] == ["a.json"]
    assert list(path.parent.iterdir()) == [path]


def test_a_block_that_fails_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(SystemExit), atomic_folder(tmp_path / "step-1") as scratch:
        write_json_atomic(scratch / "a.json", 1)
        raise SystemExit
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_exists_is_kept(tmp_path: Path) -> None:
    for value in (1, 2):
        with atomic_folder(tmp_path / "step-1") as scratch:
            write_json_atomic(scratch / "a.json", value)
    assert (tmp_path / "step-1" / "a.json").read_text() == "1\n"
    assert len(list(tmp_path.iterdir())) == 1


def test_a_file_in_the_place_of_the_parent_is_named(tmp_path: Path) -> None:
    (tmp_path / "checkpoints").write_text("")
    with pytest.raises(WriteError, match="step-1"), atomic_folder(tmp_path / "checkpoints" / "step-1"):
        pass
