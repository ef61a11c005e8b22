"""What hostile files hold: pickles, modules, headers, archives."""

from __future__ import annotations

import json
import os
import pickle
import struct
from pathlib import Path
from typing import Any

from tests.hostile.watch import Watch


class Payload:
    """Runs a shell command when it is unpickled."""

    def __init__(self, command: str) -> None:
        self.command = command

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (self.command,)


def pickled(watch: Watch) -> bytes:
    """A pickle that makes the canary."""
    return pickle.dumps(Payload(watch.command))


def torch_pickle(watch: Watch) -> bytes:
    """What torch.save would write of it: a zip archive with a pickle in it."""
    import io  # noqa: PLC0415

    import torch  # noqa: PLC0415

    out = io.BytesIO()
    torch.save({"weight": Payload(watch.command)}, out)
    return out.getvalue()


def module_of(watch: Watch, name: str = "evil.py") -> Path:
    """A module that makes the canary when it is imported."""
    file = watch.folder / name
    file.write_text(f"{watch.code}\n\nclass Evil:\n    def __init__(self, *a, **k):\n        {watch.code}\n")
    return file


def safetensors_header(header: Any, data: bytes = b"", size: int | None = None) -> bytes:
    """A safetensors file with any header, whose length may be another than it says."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if size is None else size) + text + data


def tensor(dtype: str = "F32", shape: Any = (1,), offsets: Any = (0, 4)) -> dict[str, Any]:
    """An entry of a header."""
    return {"dtype": dtype, "shape": list(shape), "data_offsets": list(offsets)}


# By name: files that safetensors must refuse, each a function of the watch.
BROKEN_SAFETENSORS = {
    "empty": lambda watch: b"",
    "cut in the length": lambda watch: b"\x10\x00",
    "cut in the header": lambda watch: safetensors_header({"a": tensor()})[:20],
    "cut in the data": lambda watch: safetensors_header({"a": tensor(shape=(100,), offsets=(0, 400))}, b"\0" * 8),
    "length of 2**63": lambda watch: safetensors_header(b"{}", size=2**63),
    "length beyond the file": lambda watch: safetensors_header(b"{}", size=10**9),
    "header of no JSON": lambda watch: safetensors_header(b"\x80\x04."),
    "header a list": lambda watch: safetensors_header([1, 2]),
    "deep header": lambda watch: safetensors_header(b"[" * 50_000 + b"]" * 50_000),
    "shape of 2**62": lambda watch: safetensors_header({"a": tensor(shape=(2**62, 2**62))}, b"\0" * 4),
    "negative shape": lambda watch: safetensors_header({"a": tensor(shape=(-1,))}, b"\0" * 4),
    "offsets backwards": lambda watch: safetensors_header({"a": tensor(offsets=(4, 0))}, b"\0" * 4),
    "offsets beyond": lambda watch: safetensors_header({"a": tensor(offsets=(0, 10**12))}, b"\0" * 4),
    "overlapping": lambda watch: safetensors_header({"a": tensor(), "b": tensor()}, b"\0" * 4),
    "unknown type": lambda watch: safetensors_header({"a": tensor(dtype="PICKLE")}, b"\0" * 4),
    "a pickle": pickled,
    "torch's pickle": torch_pickle,
}
