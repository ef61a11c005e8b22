"""What a model's files must not do: run code, or ask for more than there can be; looked at before they are read.

No code of a model's own is ever run and no pickle read (loading.py); what is left are numbers in config.json from which
transformers would build modules until memory is full, and weights that an index leads elsewhere.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from src.errors import brief

MOST_CONFIG = 5_000_000  # bytes of config.json
MOST_LAYERS = 2_000  # also heads and experts, of which each is a module or a loop
MOST_LABELS = 100_000
MOST_UNITS = 2**31  # of anything else
_COUNTS = ("layer", "head", "expert", "depth", "stage", "block")
_LABELS = ("num_labels", "num_classes")
_KERNELS = ("attn_implementation", "_attn_implementation", "experts_implementation")
# Bits of a weight on disk are at least 4; heads and poolers that a file lacks are small.
WEIGHTS_PER_BYTE, SMALL = 2, 10_000_000


def check_folder(source: str) -> None:
    """Raises:
    ValueError: what is wrong with a local folder; hub ids are left to `check_values`.
    """
    folder = Path(source)
    if not folder.is_dir():
        return
    if (folder / "adapter_config.json").exists():
        raise ValueError("it holds an adapter (adapter_config.json), where a whole model belongs.")
    config, index = folder / "config.json", folder / "model.safetensors.index.json"
    if config.is_file() and config.stat().st_size > MOST_CONFIG:
        raise ValueError(f"its config.json has more than {MOST_CONFIG:,} bytes.")
    if index.is_file():
        files = set(json.loads(index.read_bytes())["weight_map"].values())
        if foreign := [name for name in files if Path(name).name != name or not name.endswith(".safetensors")]:
            raise ValueError(f"its index names {brief(repr(foreign[0]))}, which is no safetensors file beside it.")


def check_values(config: Mapping[str, Any]) -> None:
    """Raises:
    ValueError: a number in config.json that no model has, or code from elsewhere.
    """
    for key, value in _entries(config):
        if key in _KERNELS and "/" in str(value):
            raise ValueError(f"its {key} is {brief(repr(value))}, code from elsewhere, which is never run.")
        if isinstance(value, bool) or not isinstance(value, int):
            continue
        is_size = key.endswith(("size", "dim"))
        counts = not is_size and any(word in key for word in _COUNTS)
        most = MOST_LABELS if key in _LABELS else MOST_LAYERS if counts else MOST_UNITS
        if not -MOST_UNITS <= value <= most:
            raise ValueError(f"its {key} is {brief(str(value))}, and no model has more than {most:,}.")


def check_size(source: str, num_parameters: int) -> None:
    """Raises:
    ValueError: a local folder whose weights are far too few for the model that its config describes.
    """
    stored = sum(file.stat().st_size for file in Path(source).glob("*.safetensors")) if Path(source).is_dir() else 0
    if stored and num_parameters > WEIGHTS_PER_BYTE * stored + SMALL:
        raise ValueError(f"its config describes {num_parameters:,} parameters, and its weights have {stored:,} bytes.")


def _entries(value: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping):
        for name, item in value.items():
            yield from _entries(item, str(name))
    elif isinstance(value, list):
        for item in value:
            yield from _entries(item, key)
    else:
        yield key, value
