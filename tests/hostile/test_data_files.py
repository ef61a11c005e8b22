"""Data from elsewhere: scripts, pickles and archives under other names, folders that lead out."""

from __future__ import annotations

import gzip
import io
import json
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from src.data.sources import load_rows
from src.spec import TaskSpec
from tests.hostile.payloads import BROKEN_SAFETENSORS, module_of, pickled, torch_pickle
from tests.hostile.watch import Watch, refused

SUFFIXES = (".csv", ".tsv", ".json", ".jsonl", ".parquet")
SCRIPT = "import datasets\n{code}\nclass Evil(datasets.GeneratorBasedBuilder):\n    pass\n"


def spec(path: object) -> TaskSpec:
    return TaskSpec(str(path), "classification", test_split=None)


def load(watch: Watch, path: object) -> Callable[[], object]:
    return lambda: load_rows(spec(path), watch.folder.parent / "cache")


def a_zip(watch: Watch) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("../../evil.csv", "text,label\na,b\n")
    return out.getvalue()


def a_bomb(watch: Watch) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x.csv", b"\0" * (1 << 24))
    return out.getvalue()


def a_tar(watch: Watch) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for name, kind in (("../../evil.csv", tarfile.REGTYPE), ("/tmp/evil", tarfile.SYMTYPE)):
            member = tarfile.TarInfo(name)
            member.type, member.linkname = kind, "/etc/passwd"
            archive.addfile(member)
    return out.getvalue()


def a_gzip(watch: Watch) -> bytes:
    return gzip.compress(b"text,label\na,b\n")


def an_object_array(watch: Watch) -> bytes:
    out = io.BytesIO()
    np.save(out, np.array([{"a": 1}], dtype=object), allow_pickle=True)
    return out.getvalue()


CONTENTS = (pickled, torch_pickle, a_zip, a_bomb, a_tar, a_gzip, an_object_array)


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("content", CONTENTS, ids=lambda content: content.__name__)
def test_pickles_and_archives_under_other_names_are_refused(
    content: Callable[[Watch], bytes], suffix: str, watch: Watch
) -> None:
    file = watch.folder / f"data{suffix}"
    file.write_bytes(content(watch))
    assert str(file) in refused(watch, load(watch, file), 1)


@pytest.mark.parametrize(
    "name", ["evil.py", "data.zip", "data.tar", "data.csv.gz", "x.pkl", "x.pickle", "deep/er/evil.py", "x.pt", "x.bin"]
)
def test_folders_with_code_pickles_or_archives_are_refused(name: str, watch: Watch) -> None:
    (watch.folder / "train.csv").write_text("text,label\na,b\nc,d\n")
    file = watch.folder / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(a_zip(watch) if "zip" in name else SCRIPT.format(code=watch.code).encode())
    assert name in refused(watch, load(watch, watch.folder), 1)


def test_a_script_named_like_its_folder_is_refused(watch: Watch) -> None:
    (watch.folder / f"{watch.folder.name}.py").write_text(SCRIPT.format(code=watch.code))
    refused(watch, load(watch, watch.folder), 1)


def test_a_script_is_no_data_file(watch: Watch) -> None:
    refused(watch, load(watch, module_of(watch)), 1)


@pytest.mark.parametrize(
    "files",
    [
        "../../secret.csv",
        "/etc/passwd",
        "https://127.0.0.1:9/x.csv",
        "hf://datasets/evil/x/x.csv",
        "~/.netrc",
        "zip://../x::https://127.0.0.1:9/x",
    ],
)
def test_a_card_that_leads_elsewhere_is_refused(files: str, watch: Watch) -> None:
    (watch.folder / "train.csv").write_text("text,label\na,b\nc,d\n")
    card = {"configs": [{"config_name": "default", "data_files": [{"split": "train", "path": files}]}]}
    (watch.folder / "README.md").write_text(f"---\n{json.dumps(card)}\n---\n")
    assert "README.md" in refused(watch, load(watch, watch.folder), 1)


@pytest.mark.parametrize(
    "card", ["!!python/object/apply:os.system [x]", "a: [", "\0", "- 1", "configs: 7", "configs: {a: b}"]
)
def test_a_broken_card_runs_nothing(card: str, watch: Watch) -> None:
    (watch.folder / "train.csv").write_text("text,label\na,b\nc,d\n")
    (watch.folder / "README.md").write_text(f"---\n{card}\n---\n")
    with watch.on():
        try:
            assert len(load_rows(spec(watch.folder), watch.folder.parent / "cache")["train"]) == 2
        except Exception as error:
            assert "cannot be loaded" in str(error)
    watch.check()


@pytest.mark.parametrize(
    "metadata",
    [
        {"huggingface": json.dumps({"info": {"features": {"text": {"_type": "os.system"}}}})},
        {"huggingface": json.dumps({"info": {"features": {"text": {"_type": "Evil", "dtype": "x"}}}})},
        {
            "huggingface": json.dumps(
                {"info": {"features": {"text": {"_type": "Array2D", "shape": [10**12, 10**12], "dtype": "int64"}}}}
            )
        },
        {"huggingface": "[" * 5000},
        {"pandas": json.dumps({"index_columns": [{"kind": "evil"}], "columns": "x"})},
        {"ARROW:schema": "evil"},
    ],
    ids=lambda metadata: str(metadata)[:60],
)
def test_hostile_metadata_of_a_parquet_file_run_nothing(metadata: dict[str, str], watch: Watch) -> None:
    table = pa.table({"text": ["a", "b"], "label": ["x", "y"]}).replace_schema_metadata(metadata)
    pq.write_table(table, watch.folder / "data.parquet")
    with watch.on():
        try:
            assert len(load_rows(spec(watch.folder / "data.parquet"), watch.folder.parent / "cache")["train"]) == 2
        except Exception as error:
            assert "cannot be loaded" in str(error)
    watch.check()


def test_a_pickled_extension_type_of_arrow_is_not_unpickled(watch: Watch) -> None:
    marks = {b"ARROW:extension:name": b"arrow.py_extension_type", b"ARROW:extension:metadata": pickled(watch)}
    field = pa.field("text", pa.string(), metadata=marks)
    table = pa.table({"text": ["a", "b"], "label": ["x", "y"]}, schema=pa.schema([field, ("label", pa.string())]))
    pq.write_table(table, watch.folder / "data.parquet")
    with watch.on():
        try:
            load_rows(spec(watch.folder / "data.parquet"), watch.folder.parent / "cache")
        except Exception as error:
            assert "cannot be loaded" in str(error)
    watch.check()


def test_a_picture_is_not_fetched_from_an_address(watch: Watch) -> None:
    features = {"info": {"features": {"image": {"_type": "Image"}, "label": {"_type": "Value", "dtype": "string"}}}}
    rows = [{"bytes": None, "path": f"https://192.0.2.1/{name}.png"} for name in "ab"]
    table = pa.table({"image": rows, "label": ["x", "y"]}).replace_schema_metadata(
        {"huggingface": json.dumps(features)}
    )
    pq.write_table(table, watch.folder / "data.parquet")
    task = TaskSpec(str(watch.folder / "data.parquet"), "classification", test_split=None, image="image")
    assert "address" in refused(watch, lambda: load_rows(task, watch.folder.parent / "cache"), 1)


@pytest.mark.parametrize(
    "path",
    [
        "https://me:pa55word@192.0.2.1/x.csv",
        "hf://datasets/x",
        "s3://x/y.csv",
        "file:///etc/passwd",
        "../x",
        "a\0b",
        "/etc/passwd",
        "x" * 3000,
        "/" + "y/" * 1500,
        ";touch x",
        "a/b/c",
        "",
        ".",
    ],
)
def test_paths_of_no_data_are_refused(path: str, watch: Watch, monkeypatch: pytest.MonkeyPatch) -> None:
    (watch.folder / "empty").mkdir()
    monkeypatch.chdir(watch.folder / "empty")
    assert "pa55word" not in refused(watch, load(watch, path))


@pytest.mark.parametrize("path", [Path("link.csv"), Path("loop.csv"), Path("folder.csv"), Path("pipe.csv")])
def test_what_is_no_plain_file_is_refused_and_not_waited_for(path: Path, watch: Watch) -> None:
    import os  # noqa: PLC0415

    (watch.folder / "link.csv").symlink_to("/nowhere")
    (watch.folder / "loop.csv").symlink_to("loop.csv")
    (watch.folder / "folder.csv").mkdir()
    os.mkfifo(watch.folder / "pipe.csv")
    refused(watch, load(watch, watch.folder / path), 1)


def test_broken_safetensors_are_no_data(watch: Watch) -> None:
    for name, content in BROKEN_SAFETENSORS.items():
        file = watch.folder / "data.parquet"
        file.write_bytes(content(watch))
        assert str(file) in refused(watch, load(watch, file), 1), name
