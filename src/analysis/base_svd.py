"""W0 of each letter and layer, and its SVD: computed once for each base and kept under the cache folder."""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor, nn

from src.adapters.projections import Projection
from src.adapters.start import weight_of
from src.analysis.thin import Svd
from src.errors import WriteError
from src.records import write_bytes_atomic

logger = logging.getLogger(__name__)


def base_svds(backbone: nn.Module, projections: Sequence[Projection], cache_dir: Path) -> dict[str, Svd]:
    """The SVDs of W0 by projection key, from the cache where they are there."""
    started, computed, svds = time.perf_counter(), 0, {}
    for projection in projections:
        weight = weight_of(backbone, projection)
        path = cache_dir / "svd" / f"{_fingerprint(weight)}.safetensors"
        svd = _read(path, weight)
        if svd is None:
            computed, svd = computed + 1, svd_of(weight)
            _write(path, svd)
        svds[projection.key] = svd
    if computed:
        logger.info("Decomposed %d of %d base matrices in %.1f s", computed, len(svds), time.perf_counter() - started)
    return svds


def svd_of(weight: Tensor) -> Svd:
    """All min(d_out, d_in) triplets, computed in float64 and kept in the weight's precision, at least float32."""
    u, s, vh = torch.linalg.svd(weight.double(), full_matrices=False)
    dtype = torch.promote_types(weight.dtype, torch.float32)
    return Svd(u.to(dtype), s.to(dtype), vh.T.contiguous().to(dtype))


def _fingerprint(weight: Tensor) -> str:
    """SHA-256 of values, shape and precision."""
    raw = weight.detach().cpu().contiguous()
    header = f"{raw.dtype} {tuple(raw.shape)} ".encode()
    return hashlib.sha256(header + raw.view(torch.uint8).numpy().tobytes()).hexdigest()


def _read(path: Path, weight: Tensor) -> Svd | None:
    try:
        tensors = load_file(path, device=str(weight.device))
        return Svd(tensors["u"], tensors["s"], tensors["v"])
    except (OSError, SafetensorError, KeyError):
        return None


def _write(path: Path, svd: Svd) -> None:
    content = {"u": svd.u, "s": svd.s, "v": svd.v}
    with suppress(WriteError):  # a cache that cannot be written costs time, not the analysis
        write_bytes_atomic(path, save({name: tensor.cpu().contiguous() for name, tensor in content.items()}))
