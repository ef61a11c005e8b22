"""Devices and precisions are probed, never guessed."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from src.errors import ConfigError
from src.models import hardware
from src.models.hardware import choose_attention, has_native_bfloat16, master_dtype, resolve_device, resolve_dtype

CPU = torch.device("cpu")
NUM_GPUS = torch.cuda.device_count() if torch.cuda.is_available() else 0


def test_auto_is_the_gpu_where_there_is_one() -> None:
    assert resolve_device("auto") == torch.device("cuda:0" if NUM_GPUS else "cpu")
    assert resolve_device("cpu") == CPU


@pytest.mark.parametrize("requested", [f"cuda:{NUM_GPUS}", "cuda:99", "cuda:200"])
def test_a_gpu_that_is_not_there_is_refused_with_what_is(requested: str) -> None:
    with pytest.raises(ConfigError, match=r"^device is 'cuda:\d+'; allowed: auto, cpu \(") as caught:
        resolve_device(requested)
    assert caught.value.exit_code == 2


@pytest.mark.skipif(NUM_GPUS > 0, reason="a machine with a GPU")
def test_without_a_gpu_the_message_says_so() -> None:
    with pytest.raises(ConfigError, match=r"device is 'cuda'; allowed: auto, cpu \(no usable GPU here\)\."):
        resolve_device("cuda")


@pytest.mark.parametrize(("native", "dtype"), [(True, torch.bfloat16), (False, torch.float32)])
def test_auto_is_bfloat16_only_where_it_is_native(
    native: bool, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hardware, "has_native_bfloat16", lambda device: native)
    assert resolve_dtype("auto", CPU) == dtype


def test_a_precision_that_was_asked_for_is_given() -> None:
    wanted = {"float32": torch.float32, "float64": torch.float64, "bfloat16": torch.bfloat16}
    assert {name: resolve_dtype(name, CPU) for name in wanted} == wanted


@pytest.mark.parametrize("native", [True, False])
def test_emulated_bfloat16_is_given_with_a_warning(
    native: bool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(hardware, "has_native_bfloat16", lambda device: native)
    resolve_dtype("bfloat16", CPU)
    assert ("slower than float32" in caplog.text) is not native


def test_the_probe_agrees_with_the_processors_own_flags() -> None:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    flags = next((line.split() for line in lines if line.startswith("flags")), None)
    if flags is None:
        pytest.skip("no processor flags to compare with")
    assert has_native_bfloat16(CPU) == bool({"avx512_bf16", "amx_tile"} & set(flags))


@pytest.mark.parametrize(
    ("base", "trained"),
    [(torch.bfloat16, torch.float32), (torch.float32, torch.float32), (torch.float64, torch.float64)],
)
def test_what_is_trained_is_never_below_float32(base: torch.dtype, trained: torch.dtype) -> None:
    assert master_dtype(base) == trained


@pytest.mark.parametrize(
    ("device", "dtype", "length", "implementation"),
    [
        ("cpu", torch.bfloat16, 128, "eager"),
        ("cpu", torch.bfloat16, 129, "sdpa"),
        ("cpu", torch.float32, 64, "sdpa"),
        ("cuda", torch.bfloat16, 64, "sdpa"),
    ],
)
def test_plain_attention_only_where_it_was_measured_to_be_faster(
    device: str, dtype: torch.dtype, length: int, implementation: str
) -> None:
    assert choose_attention(torch.device(device), dtype, length) == implementation
