"""Task heads on disk, and how they pool."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from src.errors import HarnessError
from src.models.bank import read_head, saved_pooling


def test_a_head_is_read_or_refused(tmp_path: Path) -> None:
    save_file({"head.weight": torch.ones(2, 3), "head.bias": torch.zeros(2)}, tmp_path / "head.safetensors")
    assert read_head(tmp_path / "head.safetensors").weight.shape == (2, 3)
    save_file({"other": torch.ones(2)}, tmp_path / "head.safetensors")
    with pytest.raises(HarnessError, match="no task head that can be read"):
        read_head(tmp_path / "head.safetensors")
    save_file(
        {"head.weight": torch.full((2, 3), torch.nan), "head.bias": torch.zeros(2)}, tmp_path / "head.safetensors"
    )
    with pytest.raises(HarnessError, match="damaged: it holds values that are no finite numbers"):
        read_head(tmp_path / "head.safetensors")


def test_how_a_head_pools_is_read_or_refused(tmp_path: Path) -> None:
    assert saved_pooling(tmp_path) is None
    (tmp_path / "head.json").write_text('{"kind": "classification", "pooling": "first", "labels": null}')
    assert saved_pooling(tmp_path) == "first"
    for text, said in (
        ('{"pooling": "max"}', "pooling 'max'; allowed: mean, first, last"),
        ("{", "cannot be read"),
        ("[]", "cannot be read"),
    ):
        (tmp_path / "head.json").write_text(text)
        with pytest.raises(HarnessError, match=said):
            saved_pooling(tmp_path)
