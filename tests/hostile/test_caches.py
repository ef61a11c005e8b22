"""Caches, checkpoints and tables that someone changed: made anew or refused, never believed and never run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save

from src.data.task_cache import _digest, read_task, write_task
from src.data.token_cache import digest, read_tokens, write_tokens
from src.experiment.packing.pack_table import PackTable, read_table, write_table
from src.tracking.summary import read_ids
from src.training.checkpoint import find_steps, load_lane, read_roster, save_lanes
from tests.hostile.payloads import BROKEN_SAFETENSORS, pickled
from tests.hostile.watch import Watch, refused
from tests.tiny import start, tiny_base, tiny_cell, tiny_data

GOOD = {"input_ids": torch.arange(6, dtype=torch.int32), "offsets": torch.tensor([0, 2, 6])}


def tokens(**changes: torch.Tensor) -> bytes:
    """A cache file whose digest fits what it holds."""
    tensors = {**GOOD, **changes}
    return save(tensors, {"counts": "{}", "sha256": digest(tensors)})


@pytest.mark.parametrize("name", BROKEN_SAFETENSORS)
def test_a_broken_cache_is_made_anew(name: str, watch: Watch) -> None:
    file = watch.folder / "x.safetensors"
    file.write_bytes(BROKEN_SAFETENSORS[name](watch))
    with watch.on():
        assert read_tokens(file) is None
        assert read_task(file, tiny_data().spec) is None
    watch.check()


@pytest.mark.parametrize(
    "changes",
    [
        {"offsets": torch.tensor([0, 2, 9])},
        {"offsets": torch.tensor([0, 5, 2, 6])},
        {"offsets": torch.tensor([-1, 6])},
        {"offsets": torch.tensor([0])},
        {"offsets": torch.tensor([[0, 6]])},
        {"input_ids": torch.tensor([-1, 2, 3, 4, 5, 6], dtype=torch.int32)},
    ],
    ids=str,
)
def test_tokens_that_are_cut_wrongly_are_made_anew(changes: dict[str, torch.Tensor], watch: Watch) -> None:
    file = watch.folder / "x.safetensors"
    file.write_bytes(tokens(**changes))
    with watch.on():
        assert read_tokens(file) is None
    watch.check()
    file.write_bytes(tokens())
    assert read_tokens(file) is not None


@pytest.mark.parametrize("at", [-1, -4, 200])
def test_a_changed_byte_is_noticed(at: int, watch: Watch) -> None:
    file = watch.folder / "x.safetensors"
    write_tokens(file, GOOD, {})
    content = bytearray(file.read_bytes())
    content[at] ^= 1
    file.write_bytes(content)
    assert read_tokens(file) is None


@pytest.mark.parametrize(
    "plain",
    [
        "",
        "[]",
        "7",
        "[" * 100_000,
        '{"label_names": 7}',
        '{"label_names": null, "evil": 1}',
        '{"label_names": null, "test_completions": null, "num_labels": 3}',
    ],
)
def test_a_task_with_another_description_is_made_anew(plain: str, watch: Watch) -> None:
    data, file = tiny_data(), watch.folder / "x.safetensors"
    tensors = {}
    for role in ("train", "validation", "test"):
        split = getattr(data, role)
        tensors |= {f"{role}.input_ids": split.input_ids, f"{role}.offsets": split.offsets}
    file.write_bytes(save(tensors, {"plain": plain, "sha256": _digest(tensors, plain)}))
    with watch.on():
        assert read_task(file, data.spec) is None
    watch.check()
    write_task(file, data)
    assert read_task(file, data.spec) is not None


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"\0",
        b"[]",
        b"[" * 200_000,
        b'{"key": {}, "measured": 7, "ended": true, "most": null}',
        pickled,
        "inf",
        "zero",
        "negative",
    ],
)
def test_a_changed_table_of_packs_is_measured_anew(text: Any, watch: Watch) -> None:
    key = {"device": "cpu"}
    write_table(watch.folder, key, PackTable(()))
    (file,) = watch.folder.iterdir()
    entry = {
        "inf": {"size": 1e999, "tokens_per_s": 1.0, "bytes": None},
        "zero": {"size": 1, "tokens_per_s": 0, "bytes": None},
        "negative": {"size": -5, "tokens_per_s": 1.0, "bytes": None},
    }
    if isinstance(text, str):
        text = json.dumps({"key": key, "measured": [entry[text]], "ended": True, "most": None}).encode()
    file.write_bytes(text if isinstance(text, bytes) else text(watch))
    with watch.on():
        assert read_table(watch.folder, key) is None
    watch.check()


@pytest.fixture(scope="module")
def parts() -> tuple[Any, Any, Any]:
    base, data = tiny_base("bert"), tiny_data()
    model, lanes = start(base, data, [tiny_cell(data, base)])
    return base, model, lanes


def checkpoint(watch: Watch, parts: tuple[Any, Any, Any]) -> Path:
    _, model, lanes = parts
    folder = watch.folder / "checkpoints"
    save_lanes(model, lanes, [folder])
    return folder / "step-00000000"


@pytest.mark.parametrize("name", BROKEN_SAFETENSORS)
def test_a_broken_checkpoint_is_refused(name: str, watch: Watch, parts: tuple[Any, Any, Any]) -> None:
    folder = checkpoint(watch, parts)
    (folder / "state.safetensors").write_bytes(BROKEN_SAFETENSORS[name](watch))
    assert str(folder) in refused(watch, lambda: load_lane(parts[1], parts[2][0], folder.parent, 0), 1)


@pytest.mark.parametrize(
    "change",
    [
        {"step": "x"},
        {"history": 7},
        {"history": [{"_target_": "os.system"}]},
        {"best": 99},
        {"best": "x"},
        {"meter": {"evil": 1}},
        {"meter": None},
        {"context": None},
        {"train_seconds": "os.system"},
        {"error": ["x"], "status": 7, "meter": 1},
    ],
    ids=str,
)
def test_a_changed_checkpoint_is_refused(change: dict[str, Any], watch: Watch, parts: tuple[Any, Any, Any]) -> None:
    folder = checkpoint(watch, parts)
    values = json.loads((folder / "state.json").read_text())
    (folder / "state.json").write_text(json.dumps({**values, **change}))
    assert str(folder) in refused(
        watch,
        lambda: load_lane(parts[1], parts[2][0], folder.parent, 0, {"a": "b"} if "context" in change else None),
        1,
    )


@pytest.mark.parametrize("text", [b"", b"[]", b"7", b"[" * 200_000, b"\0", b'{"roster": 7}'])
def test_a_checkpoint_without_its_description_is_refused(
    text: bytes, watch: Watch, parts: tuple[Any, Any, Any]
) -> None:
    folder = checkpoint(watch, parts)
    (folder / "state.json").write_bytes(text)
    refused(watch, lambda: read_roster(folder.parent, 0), 1)
    refused(watch, lambda: load_lane(parts[1], parts[2][0], folder.parent, 0), 1)


@pytest.mark.parametrize("name", ["step-x", "step-", "step-../../x".replace("/", "_"), "step-1e9", "step-" + "9" * 200])
def test_folders_that_are_no_checkpoint_are_not_taken_for_one(name: str, watch: Watch) -> None:
    (watch.folder / name).mkdir()
    with watch.on():
        assert find_steps(watch.folder) == []
    watch.check()


@pytest.mark.parametrize("text", [b"", b"[]", b"7", b'{"run": ["../../x"]}', b"[" * 200_000, b"\0", b"\xff\xfe"])
def test_changed_ids_of_a_tracker_are_forgotten(text: bytes, watch: Watch) -> None:
    (watch.folder / "tracking.json").write_bytes(text)
    with watch.on():
        assert read_ids(watch.folder) == {}
    watch.check()
