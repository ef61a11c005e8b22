from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from src.errors import WriteError
from src.records import atomic_folder, remove_folder, remove_leftovers, write_json_atomic

ROUNDS, WRITERS = 50, 4


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


def test_of_several_writers_one_wins_and_none_fails(tmp_path: Path) -> None:
    """A second folder takes the name at the last moment, after all looks at it."""
    path = tmp_path / "step-1"
    for _ in range(ROUNDS):
        together = threading.Barrier(WRITERS)

        def write(number: int, together: threading.Barrier = together) -> None:
            with atomic_folder(path) as scratch:
                write_json_atomic(scratch / "a.json", number)
                together.wait()

        with ThreadPoolExecutor(WRITERS) as pool:
            list(pool.map(write, range(WRITERS)))
        assert [file.name for file in tmp_path.iterdir()] == ["step-1"]
        assert (path / "a.json").read_text().strip() in {str(number) for number in range(WRITERS)}
        remove_folder(path)


def test_a_file_in_the_place_of_the_parent_is_named(tmp_path: Path) -> None:
    (tmp_path / "checkpoints").write_text("")
    with pytest.raises(WriteError, match="step-1"), atomic_folder(tmp_path / "checkpoints" / "step-1"):
        pass


def test_a_removed_folder_is_gone_at_once_and_leaves_nothing(tmp_path: Path) -> None:
    with atomic_folder(tmp_path / "step-1") as scratch:
        write_json_atomic(scratch / "a.json", 1)
    remove_folder(tmp_path / "step-1")
    remove_folder(tmp_path / "step-2")  # never there
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_being_removed_has_another_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A kill in the middle leaves it under a name that nobody takes for a whole folder."""
    with atomic_folder(tmp_path / "step-1") as scratch:
        write_json_atomic(scratch / "a.json", 1)
    monkeypatch.setattr("shutil.rmtree", lambda *_, **__: None)
    remove_folder(tmp_path / "step-1")
    (left,) = tmp_path.iterdir()
    assert left.name.startswith(".step-1.")
    monkeypatch.undo()
    remove_leftovers(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_leftovers_of_files_and_folders_go_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / ".record.json.0a1b2c3d.tmp").write_text("{")
    (tmp_path / ".step-1.0a1b2c3d.tmp").mkdir()
    kept = [tmp_path / "record.json", tmp_path / ".claims", tmp_path / "a.tmp"]
    for path in kept:
        path.write_text("")
    remove_leftovers(tmp_path)
    assert sorted(tmp_path.iterdir()) == sorted(kept)
