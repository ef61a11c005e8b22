from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from src.errors import HarnessError
from src.records import StudyPaths, list_studies, read_study, write_plan
from tests.record_factory import make_record, make_spec, save


def test_records_come_sorted_and_whole(tmp_path: Path) -> None:
    records = [make_record(make_spec("qv", rank)) for rank in (8, 1, 4)]
    study = read_study(save(tmp_path, "study", *records))
    assert list(study.records) == sorted(records, key=lambda record: record.run_id)
    assert (study.name, study.skipped, study.unfinished) == ("study", (), ())


def test_a_study_that_was_never_started_is_empty(tmp_path: Path) -> None:
    study = read_study(StudyPaths.of(tmp_path, "study"))
    assert (study.records, study.skipped, study.unfinished) == ((), (), ())


def test_runs_without_a_record_are_unfinished_and_stray_files_are_ignored(tmp_path: Path) -> None:
    paths = save(tmp_path, "study", make_record(make_spec()))
    paths.run("half").checkpoints.mkdir(parents=True)
    (paths.runs / "notes.txt").write_text("mine")
    (paths.runs / ".hidden").mkdir()
    study = read_study(paths)
    assert study.unfinished == ("half",)
    assert len(study.records) == 1


def test_what_the_last_command_planned_and_did_not_start_is_unfinished(tmp_path: Path) -> None:
    record = make_record(make_spec())
    paths = save(tmp_path, "study", record)
    write_plan([record.run_id, "waiting"], paths)
    assert read_study(paths).unfinished == ("waiting",)
    write_plan([record.run_id], paths)
    assert read_study(paths).unfinished == ()
    paths.plan.write_text("[")
    assert read_study(paths).unfinished == ()


def test_corrupt_records_are_listed_and_the_others_read(tmp_path: Path) -> None:
    paths = save(tmp_path, "study", make_record(make_spec()))
    bad = paths.run("bad").record
    bad.parent.mkdir()
    bad.write_text("{")
    study = read_study(paths)
    assert len(study.records) == 1
    assert [skipped.path for skipped in study.skipped] == [bad]
    assert "JSON" in study.skipped[0].reason


def test_a_copied_folder_does_not_count_its_seed_twice(tmp_path: Path) -> None:
    record = make_record(make_spec())
    paths = save(tmp_path, "study", record)
    shutil.copytree(paths.run(record.run_id).root, paths.run("copy").root)
    study = read_study(paths)
    assert list(study.records) == [record]
    assert record.run_id in study.skipped[0].reason


def test_runs_that_is_no_folder_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "study").mkdir()
    (tmp_path / "study" / "runs").write_text("")
    with pytest.raises(HarnessError, match="Cannot list"):
        read_study(StudyPaths.of(tmp_path, "study"))


def test_only_folders_with_runs_are_studies(tmp_path: Path) -> None:
    for name in ("b", "a"):
        save(tmp_path, name, make_record(make_spec()))
    (tmp_path / "other").mkdir()
    assert list_studies(tmp_path) == ["a", "b"]
    assert list_studies(tmp_path / "nowhere") == []
