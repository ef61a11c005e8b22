"""Analyse saved adapters: subspaces, spectra, amplification, intruder dimensions, forgetting; nothing is trained.

    python -m src.analyze what_rank [<study> ...] [--output-dir outputs] [--truncation 200] [--device cpu]
    python -m src.analyze --adapters <peft folder> [<peft folder> ...] [--base <model path or id>] [--name adapters]

Writes one JSON file for each table to <output dir>/<study>/analysis/, which src.report shows. A study's runs are those
at the learning rate that validation chose; adapters in peft's format from elsewhere are analysed without data. The
SVDs of the base's weights are computed once and kept in the cache folder. --truncation is the number of validation
examples on which adapted models are scored for the tables truncation and forgetting (language models: at most 50); 0
leaves both out.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from src.config import to_settings
from src.config.compose import compose_config
from src.config.messages import report
from src.errors import ConfigError
from src.records import StudyPaths, find_study, read_study
from src.spec import ModelSpec

if TYPE_CHECKING:
    from src.analysis.study import Analysis, Options

EXAMPLES = 200


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code: 0; 1 where something could not be analysed, and the others are all the same; 2 wrong arguments."""
    parser = _parser()
    given = parser.parse_args(arguments)
    if not given.studies and not given.adapters:
        parser.error("name a study, or adapters with --adapters")
    code = 0
    try:
        options = _options(given)
        jobs = [(study, None) for study in given.studies] + ([(given.name, given.adapters)] if given.adapters else [])
    except (Exception, KeyboardInterrupt) as error:
        return report(error)
    for name, folders in jobs:
        try:
            _analyse(given.output_dir, name, folders, given.base, options)
        except (Exception, KeyboardInterrupt) as error:
            code = report(error)
    return code


def _analyse(output_dir: Path, name: str, folders: Sequence[Path] | None, base: str | None, options: Options) -> None:
    """Raises:
    HarnessError: see analyse_study and analyse_folders, or the tables cannot be written.
    """
    from src.analysis.study import analyse_folders, analyse_study, write_tables  # noqa: PLC0415 - torch takes seconds

    if folders is None:
        paths = find_study(output_dir, name)
        analysis = analyse_study(read_study(paths), paths, options)
    else:
        paths = StudyPaths.of(output_dir, name)
        analysis = analyse_folders(folders, ModelSpec(base or _base_of(folders)), options)
    write_tables(analysis, paths.analysis)
    _show(analysis, paths)


def _base_of(folders: Sequence[Path]) -> str:
    """The base that the adapters' own configs name.

    Raises:
        HarnessError: they cannot be read.
        ConfigError: none or several are named.
    """
    from src.adapters.peft_import import read_peft  # noqa: PLC0415 - torch takes seconds

    bases = {str(read_peft(folder).config.get("base_model_name_or_path") or "") for folder in folders}
    if len(bases) > 1 or "" in bases:
        named = ", ".join(sorted(bases - {""})) or "none"
        raise ConfigError("--base", None, f"the one base model of all adapters; their configs name {named}")
    return bases.pop()


def _show(analysis: Analysis, paths: StudyPaths) -> None:
    print(f"{paths.name}: {len(analysis.tables)} tables in {paths.analysis}")
    for name, table in analysis.tables.items():
        print(f"  {name}: {len(table):,} rows")
    for skipped in analysis.skipped:
        print(f"{skipped.path}: not read: {skipped.reason}")
    for note in analysis.notes:
        print(note)


def _options(given: argparse.Namespace) -> Options:
    from src.analysis.study import Options  # noqa: PLC0415 - torch takes seconds
    from src.experiment.display.console import configure_logging  # noqa: PLC0415
    from src.models.hardware import resolve_device  # noqa: PLC0415

    if given.truncation < 0:
        raise ConfigError("--truncation", given.truncation, "0 (leave truncation and forgetting out) or more examples")
    configure_logging(None)
    cache_dir = given.cache_dir or Path(to_settings(compose_config()).cache_dir)
    return Options(cache_dir.expanduser(), resolve_device(given.device), given.truncation)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m src.analyze", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("studies", nargs="*", metavar="study", help="folder name under the output folder")
    parser.add_argument("--output-dir", type=Path, default=Path("outputs"), help="default: outputs")
    parser.add_argument("--cache-dir", type=Path, help="default: as in conf/config.yaml")
    parser.add_argument("--device", default="cpu", help="cpu (default), cuda or auto")
    parser.add_argument("--truncation", type=int, default=EXAMPLES, help=f"validation examples, default: {EXAMPLES}")
    parser.add_argument("--adapters", nargs="+", type=Path, default=[], help="folders that peft saved")
    parser.add_argument("--base", help="base model of --adapters; default: what their adapter_config.json names")
    parser.add_argument("--name", default="adapters", help="folder under the output folder for --adapters")
    return parser


if __name__ == "__main__":
    sys.exit(main())
