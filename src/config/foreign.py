"""What a config file of another folder than conf/ and sweeps/ must not set.

Such files are passed on between people. Commands for a shell and folders to write to are a person's own choice, and
so stand on the command line or in the repository.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from src.config.nodes import value_at
from src.errors import ConfigError

REPOSITORY = Path(__file__).resolve().parents[2]
OWN_FOLDERS = (REPOSITORY / "conf", REPOSITORY / "sweeps")
# Shell text by nature, or options and addresses that can name commands and files.
COMMANDS = (
    "slurm.setup",
    "slurm.extra",
    "hydra.launcher.setup",
    "hydra.launcher.python",
    "hydra.launcher.srun_args",
    "hydra.launcher.additional_parameters",
    "hydra.sweeper.storage",
)
# What Hydra fills in itself, and the guard relies on.
FILLED = ("hydra.overrides", "hydra.runtime")
FOLDERS = ("hydra.run.dir", "hydra.sweep.dir", "hydra.launcher.submitit_folder")
PARAMS = "hydra.sweeper.params"


def is_foreign(source: str | None) -> bool:
    """Whether a config source, such as ``file:///home/me/conf``, is a folder that is not the repository's."""
    if source is None or not source.startswith("file://"):
        return False
    folder = Path(source.removeprefix("file://")).resolve()
    return not any(folder.is_relative_to(own) for own in OWN_FOLDERS)


def check_file(source: str, node: Any) -> list[str]:
    """Args:
        source: where a file comes from.
        node: what it holds, not resolved, at the place where it is merged.

    Returns:
        Those of `FOLDERS` that it sets.

    Raises:
        ConfigError: it sets what a file from elsewhere must not.
    """
    source = source.removeprefix("file://")
    for key in FILLED:
        if value := value_at(node, key):
            raise ConfigError(key, value, f"nothing in a file of {source}; Hydra fills it in")
    for key in COMMANDS:
        if value := value_at(node, key):
            allowed = f"nothing in a file of {source}; commands stand on the command line or in conf/"
            raise ConfigError(key, value, allowed)
    _check_axes(source, value_at(node, PARAMS))
    return [key for key in FOLDERS if value_at(node, key) is not None]


def _check_axes(source: str, axes: Any) -> None:
    """Axes become overrides of cells, as if a person had typed them."""
    for axis in axes if isinstance(axes, Mapping) else [axes] if axes else []:
        key = str(axis).lstrip("+~ \t").partition("=")[0].partition("@")[0].strip()
        hidden = not isinstance(axes, Mapping) or "$" in key
        command = any(key == part or key.startswith(f"{part}.") for part in ("slurm.setup", "slurm.extra"))
        whole = key == "slurm" and isinstance(axes, Mapping) and "{" in str(axes[axis])
        if hidden or command or whole or key.split(".")[0].split("/")[0] == "hydra":
            raise ConfigError(PARAMS, axis, f"keys of the task in a file of {source}, without commands for a shell")


def check_folders(placed: Iterable[tuple[str, Any]], output_dir: Any, overrides: Sequence[str]) -> None:
    """Args:
        placed: folders that foreign files set, by key, resolved.
        output_dir: likewise.
        overrides: as typed; what a person sets there is their own choice.

    Raises:
        ConfigError: Hydra would write its files into a folder of something else.
    """
    own = Path(str(output_dir), ".hydra").resolve()
    for key, folder in placed:
        names = (key, key.rpartition(".")[0])
        typed = any(text.lstrip("+").partition("=")[0] in names for text in overrides)
        inside = isinstance(folder, str) and "\0" not in folder and Path(folder).resolve().is_relative_to(own)
        if not typed and not (inside and Path(str(folder)).resolve() != own):
            raise ConfigError(key, folder, "a folder below <output_dir>/.hydra, or given on the command line")
