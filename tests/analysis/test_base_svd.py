from __future__ import annotations

from pathlib import Path

import pytest
import torch

from src.adapters.start import weight_of
from src.analysis.base_svd import base_svds, svd_of
from tests.tiny import CONFIGS, tiny_base


@pytest.mark.parametrize("model_type", CONFIGS)
def test_each_letters_weight_is_what_the_module_applies(model_type: str) -> None:
    """Of fused and transposed weights too: x W^T are the letter's outputs, without bias."""
    base = tiny_base(model_type)
    for p in base.projections:
        module, x = base.backbone.get_submodule(p.module), torch.randn(3, p.d_in, dtype=torch.float64)
        outputs = p.rows.take(module(x) - module(torch.zeros_like(x)), 1)
        assert weight_of(base.backbone, p).shape == (p.d_out, p.d_in)
        torch.testing.assert_close(x @ weight_of(base.backbone, p).T, outputs)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-6)], ids=str)
def test_the_svd_rebuilds_the_weight_and_comes_back_from_the_cache(
    tmp_path: Path, dtype: torch.dtype, tolerance: float
) -> None:
    base = tiny_base("gpt2", dtype=dtype)
    first = base_svds(base.backbone, base.projections, tmp_path)
    files = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.safetensors")}
    again = base_svds(base.backbone, base.projections, tmp_path)
    assert len(files) == len(base.projections) == len(first)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.safetensors")} == files
    for p in base.projections:
        svd = again[p.key]
        assert svd.u.dtype == dtype
        torch.testing.assert_close((svd.u * svd.s) @ svd.v.T, weight_of(base.backbone, p), rtol=0, atol=tolerance)
        assert torch.equal(svd.s, first[p.key].s)


def test_other_weights_are_not_mistaken_for_these(tmp_path: Path) -> None:
    base = tiny_base("bert")
    p = base.projections[0]
    before = base_svds(base.backbone, [p], tmp_path)[p.key]
    with torch.no_grad():
        weight_of(base.backbone, p).mul_(2.0)
    torch.testing.assert_close(base_svds(base.backbone, [p], tmp_path)[p.key].s, 2.0 * before.s)


def test_a_damaged_or_unwritable_cache_costs_nothing_but_time(tmp_path: Path) -> None:
    base = tiny_base("bert")
    p = base.projections[0]
    expected = base_svds(base.backbone, [p], tmp_path)[p.key].s
    (file,) = tmp_path.rglob("*.safetensors")
    file.write_bytes(b"damaged")
    assert torch.equal(base_svds(base.backbone, [p], tmp_path)[p.key].s, expected)
    assert file.stat().st_size > 100
    blocked = tmp_path / "file"
    blocked.write_text("not a folder")
    assert torch.equal(base_svds(base.backbone, [p], blocked)[p.key].s, expected)


def test_bfloat16_weights_are_decomposed_as_they_are() -> None:
    weight = torch.randn(6, 4).bfloat16()
    svd = svd_of(weight)
    assert svd.s.dtype == torch.float32
    torch.testing.assert_close((svd.u * svd.s) @ svd.v.T, weight.float())
