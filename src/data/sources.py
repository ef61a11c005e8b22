"""Raw rows of each split, whatever they come from; all of it through datasets.load_dataset."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from datasets import Dataset, DatasetDict, load_dataset

from src.assets import is_asset, resolve_asset
from src.data.digits import digits
from src.data.hub import load_hub, loading
from src.data.look import look_at_file, look_at_folder
from src.data.pictures import with_digests
from src.data.pydoc import module_split, pydoc_file
from src.data.rows import ROLES
from src.data.templates import parse_template
from src.errors import ConfigError, HarnessError, brief
from src.spec import TEXT_KINDS, TaskSpec

BUILDERS = {".csv": "csv", ".tsv": "csv", ".json": "json", ".jsonl": "json", ".parquet": "parquet"}
# Only an empty field is a missing value: documents may well read "NA" or "null".
_MISSING = {"keep_default_na": False, "na_values": [""]}
# Tab files of the assets: four header lines, one document a line, no quoting.
_TAB = {"sep": "\t", "names": ["label", "text"], "header": None, "skiprows": 4, "quoting": csv.QUOTE_NONE}


def load_rows(spec: TaskSpec, cache_dir: Path) -> dict[str, Dataset]:
    """The source's rows for each role (train, validation, test) to which the spec gives a split of its own.

    Only the columns that the task uses are kept, and pictures get a column of their digests. Roles whose split is
    None are absent: src/data/splits.py carves them from train.

    Raises:
        ConfigError: an unknown asset, split, subset or column; the message lists those that there are.
        HarnessError: no such file or data set, an unreadable one, or no network.
    """
    splits = _load(spec, cache_dir)
    wanted = {role: split for role in ROLES if (split := getattr(spec, f"{role}_split")) is not None}
    _check_splits(spec, wanted, tuple(splits))
    names = columns_of(spec, tuple(splits[spec.train_split].column_names))
    rows = {}
    for role, split in wanted.items():
        missing = [name for name in names if name not in splits[split].column_names]
        if missing:
            raise HarnessError(
                f"The {split} split of {spec.path} has no column {', '.join(missing)}, which its {spec.train_split} "
                f"split has; its columns are {', '.join(splits[split].column_names)}."
            )
        kept = splits[split].select_columns(names)
        rows[role] = kept if spec.image is None else with_digests(kept, spec, split, cache_dir)
    return rows


def columns_of(spec: TaskSpec, present: tuple[str, ...]) -> list[str]:
    """Columns that a task reads, each once.

    Raises:
        ConfigError: a column that is not in `present`.
    """
    if spec.kind in TEXT_KINDS:
        prompt = parse_template(spec.prompt or "", present, "task.prompt")
        completion = parse_template(spec.completion or "", present, "task.completion")
        return list(dict.fromkeys(prompt.columns + completion.columns))
    names = {"task.text": spec.text, "task.text_pair": spec.text_pair, "task.label": spec.label}
    if spec.image is not None:
        names = {"task.image": spec.image, "task.label": spec.label}
    for key, name in names.items():
        if name is not None and name not in present:
            raise ConfigError(key, name, f"a column of {spec.path}: {', '.join(present)}")
    return list(dict.fromkeys(name for name in names.values() if name is not None))


def _load(spec: TaskSpec, cache_dir: Path) -> Mapping[str, Dataset]:
    path, store = Path(spec.path).expanduser(), cache_dir / "datasets"
    file_like = path.suffix.lower() in BUILDERS and not path.is_dir()
    if spec.test_path is not None and not file_like:
        raise ConfigError("task.test_path", spec.test_path, f"null, as task.path ({spec.path}) is not one file")
    if is_asset(spec.path):
        return _load_asset(spec.path, cache_dir)
    if spec.path == "pydoc":
        return _load_pydoc(spec, cache_dir)
    if spec.path == "digits":
        return {"train": digits()}
    if file_like:
        files = {"train": path}
        if spec.test_path is not None:
            files["test"] = Path(spec.test_path).expanduser()
        return {split: _load_file(file, store) for split, file in files.items()}
    if path.is_dir():
        look_at_folder(path)
        with loading(spec.path, store):
            return _as_dict(load_dataset(str(path), spec.subset, cache_dir=str(store)))
    return _as_dict(load_hub(spec, store))


def _load_asset(path: str, cache_dir: Path) -> Mapping[str, Dataset]:
    folder = resolve_asset(path, cache_dir, "task.path")
    files = {split: str(folder / f"{split}.tab") for split in ("train", "test")}
    if not Path(files["train"]).is_file():
        raise ConfigError("task.path", path, "an asset that holds documents, such as asset:r52; this one is a model")
    store = cache_dir / "datasets"
    with loading(path, store):
        return _as_dict(load_dataset("csv", data_files=files, cache_dir=str(store), **_TAB, **_MISSING))


def _load_pydoc(spec: TaskSpec, cache_dir: Path) -> Mapping[str, Dataset]:
    rows = _load_file(pydoc_file(cache_dir), cache_dir / "datasets")
    roles = [module_split(module, spec.split_seed) for module in rows["module"]]
    return {role: rows.select([i for i, other in enumerate(roles) if other == role]) for role in ROLES}


def _load_file(file: Path, store: Path) -> Dataset:
    builder = BUILDERS.get(file.suffix.lower())
    if builder is None or not file.is_file():
        raise HarnessError(f"There is no data file {brief(str(file))}; files may be {', '.join(BUILDERS)}.")
    look_at_file(file)
    options: dict[str, Any] = dict(_MISSING) if builder == "csv" else {}
    if file.suffix.lower() == ".tsv":
        options["sep"] = "\t"
    with loading(str(file), store):
        return load_dataset(builder, data_files=str(file), split="train", cache_dir=str(store), **options)


def _as_dict(loaded: Any) -> DatasetDict:
    if not isinstance(loaded, DatasetDict):
        raise TypeError(f"load_dataset gave {type(loaded).__name__}")
    return loaded


def _check_splits(spec: TaskSpec, wanted: Mapping[str, str], present: tuple[str, ...]) -> None:
    listed = ", ".join(present)
    for role, split in wanted.items():
        if split not in present:
            carve = "" if role == "train" else ", or null: a seeded part of train"
            raise ConfigError(f"task.{role}_split", split, f"a split of {spec.path}: {listed}{carve}")
        same = [other for other in wanted if wanted[other] == split and other != role]
        if same:
            raise ConfigError(
                f"task.{role}_split", split, f"another split than that of {same[0]}, or null; there are {listed}"
            )
    if spec.test_path is not None and "test" not in wanted.values():
        raise ConfigError("task.test_path", spec.test_path, "null where task.test_split is null; else set it to test")
