"""Reads the file that an offline run of Weights & Biases leaves.

It is a log as LevelDB keeps it: seven bytes of header, then blocks of 32768 bytes, in them records
with a checksum (4 bytes), a length (2) and a kind (1): whole, first part, middle part, last part.
"""

import json
import struct
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

HEADER, BLOCK, RECORD = 7, 32768, 7
WHOLE, LAST = 1, 4


def rows(path: Path) -> list[dict[str, Any]]:
    """Return the rows of the history: values by key."""
    proto: Any = import_module("wandb.proto.wandb_internal_pb2")
    found: list[dict[str, Any]] = []
    for data in _records(path.read_bytes()):
        record = proto.Record()
        record.ParseFromString(data)
        if record.HasField("history"):
            found.append({})
            for item in record.history.item:
                _set(found[-1], list(item.nested_key) or [item.key], json.loads(item.value_json))
    return found


def _set(row: dict[str, Any], keys: list[str], value: Any) -> None:
    """Set a value, for several keys in dicts within dicts."""
    for key in keys[:-1]:
        row = row.setdefault(key, {})
    row[keys[-1]] = value


def _records(data: bytes) -> Iterator[bytes]:
    """Yield the records of a log."""
    assert data[:4] == b":W&B"
    at, parts = HEADER, b""
    while at + RECORD <= len(data):
        left = BLOCK - at % BLOCK
        if left < RECORD:
            at += left
            continue
        _, length, kind = struct.unpack("<IHB", data[at : at + RECORD])
        parts += data[at + RECORD : at + RECORD + length]
        at += RECORD + length
        if kind in (WHOLE, LAST):
            yield parts
            parts = b""
