"""Reads a .wandb file: a log of wandb_internal_pb2.Record in the framing of LevelDB.

A file header of 7 bytes, then blocks of 32 KiB; in these, chunks with a header of 7 bytes: crc32, length, type.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import wandb
from wandb.proto.wandb_internal_pb2 import Record

BLOCK = 32 * 1024
HEADER = struct.Struct("<IHB")
FULL, FIRST, MIDDLE, LAST = 1, 2, 3, 4


@dataclass
class RecordedRun:
    """What an offline run has written."""

    run: Any = None
    config: dict[str, Any] = field(default_factory=dict)
    rows: list[dict[str, Any]] = field(default_factory=list)
    summary: dict[str, Any] = field(default_factory=dict)
    exit_code: int | None = None


def read_runs(folder: Path, kind: str = "*run") -> list[RecordedRun]:
    """All attempts below a run's folder, oldest first; kind is ``run`` (online) or ``offline-run``."""
    # The service writes a little after run.finish returns; it has written all when it ends.
    wandb.teardown()
    return [_read(path) for path in sorted(folder.glob(f"wandb/{kind}-*/*.wandb"))]


def _read(path: Path) -> RecordedRun:
    found = RecordedRun()
    for record in _records(path.read_bytes()):
        match record.WhichOneof("record_type"):
            case "run":
                found.run = record.run
                found.config = {item.key: json.loads(item.value_json) for item in record.run.config.update}
            case "history":
                row = {item.key or item.nested_key[0]: json.loads(item.value_json) for item in record.history.item}
                found.rows.append(row)
            case "summary":
                found.summary |= {
                    item.key or item.nested_key[0]: json.loads(item.value_json) for item in record.summary.update
                }
            case "exit":
                found.exit_code = record.exit.exit_code
    return found


def _records(data: bytes) -> Iterator[Record]:
    parts: list[bytes] = []
    offset = 7
    while offset + HEADER.size <= len(data):
        left = BLOCK - offset % BLOCK
        if left < HEADER.size:
            offset += left
            continue
        _, length, kind = HEADER.unpack_from(data, offset)
        parts.append(data[offset + HEADER.size : offset + HEADER.size + length])
        offset += HEADER.size + length
        if kind in {FULL, LAST}:
            record = Record()
            record.ParseFromString(b"".join(parts))
            parts.clear()
            yield record
