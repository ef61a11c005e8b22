"""Code that a command line or a YAML file names is never run: any node, any group, files of other folders."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from src.spec import FrozenMap, SlurmSpec
from src.spec.slurm import slurm_checks
from src.train import cli
from tests.hostile.configs import FILES, FRIENDLY, HYDRA_NODES, OTHERS, TARGETS, TASK_NODES
from tests.hostile.payloads import module_of, pickled
from tests.hostile.watch import Watch


def _each(cases: Sequence[str], step: int) -> list[Any]:
    """All cases, most of them slow: each composes a config, and those that are left cover every kind."""
    return [
        case if place % step == 0 else pytest.param(case, marks=pytest.mark.slow) for place, case in enumerate(cases)
    ]


def refused_at_the_door(
    watch: Watch, arguments: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> str:
    """One paragraph on stderr, exit code 2, and no file but Hydra's own of other runs."""
    output = watch.folder.parent / "outputs"
    # What gets through ends here, with another exit code.
    end = [] if any("model" in text for text in arguments) else ["model.path=/nowhere/x"]
    end += [] if any("output_dir" in text for text in arguments) else [f"output_dir={output}"]
    monkeypatch.chdir(watch.folder.parent)
    monkeypatch.setattr(sys, "argv", ["src.train", *arguments, *end])
    monkeypatch.setenv("WANDB_API_KEY", "0123456789" * 4)
    monkeypatch.setenv("HF_TOKEN", "hf_abcdefghijklmnop")
    monkeypatch.syspath_prepend(str(watch.folder))
    with watch.on():
        code = front_door()
    told = capsys.readouterr()
    assert code == 2, told.err
    assert told.out == ""
    assert told.err.count("\n") == 1 and 20 < len(told.err) < 2000
    assert "This is not expected" not in told.err
    assert not any(secret in told.err for secret in ("pa55word", "0123456789" * 4, "hf_abcdef"))
    # Of a single run Hydra has kept the overrides by then.
    assert {path.name for path in output.glob("*")} <= {".hydra"}
    assert not any(b"0123456789" * 4 in path.read_bytes() for path in output.rglob("*") if path.is_file())
    watch.check()
    return told.err


def front_door() -> object:
    """The exit code of the command; a single run ends with SystemExit."""
    try:
        return cli()
    except SystemExit as error:
        return error.code


@pytest.mark.parametrize("node", _each(TASK_NODES + HYDRA_NODES, 4))
def test_a_target_is_refused_at_every_node(
    node: str, watch: Watch, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    module_of(watch)
    key = node.lstrip("+").removesuffix("._target_").removesuffix("_target_")
    values = [f"+{key}.command='{watch.command}'"] if key and node.startswith("+") else []
    refused_at_the_door(watch, [f"{node}=os.system", *values], monkeypatch, capsys)


@pytest.mark.slow
@pytest.mark.parametrize("mode", [[], ["-m"]], ids=["run", "multirun"])
@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("node", TASK_NODES + HYDRA_NODES)
def test_no_target_is_known(  # noqa: PLR0917
    node: str,
    target: str,
    mode: list[str],
    watch: Watch,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    module_of(watch)
    refused_at_the_door(watch, [*mode, f"{node}={target}", "seed=1"], monkeypatch, capsys)


@pytest.mark.parametrize("override", _each(OTHERS, 5), ids=lambda text: text[:40])
def test_other_ways_to_code_secrets_and_folders_are_refused(
    override: str, watch: Watch, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    module_of(watch)
    (watch.folder / "evil.pickle").write_bytes(pickled(watch))
    text = override.format(c=watch.canary, f=str(watch.folder))
    refused_at_the_door(watch, [text], monkeypatch, capsys)


@pytest.mark.parametrize("name", _each(tuple(FILES), 4))
def test_a_hostile_yaml_file_is_refused(
    name: str, watch: Watch, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    module_of(watch)
    group = watch.folder / "evil"
    group.mkdir()
    (group / "x.yaml").write_text(FILES[name].format(c=watch.canary, f=watch.folder))
    refused_at_the_door(watch, [f"--config-dir={watch.folder}", "+evil=x"], monkeypatch, capsys)


def test_a_hostile_primary_config_is_refused(
    watch: Watch, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    module_of(watch)
    (watch.folder / "config2.yaml").write_text("defaults:\n  - config\nhydra:\n  searchpath: [pkg://evil]\n")
    told = refused_at_the_door(watch, [f"--config-dir={watch.folder}", "--config-name=config2"], monkeypatch, capsys)
    assert "hydra.searchpath" in told


def test_a_hostile_primary_config_gives_no_commands(
    watch: Watch, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    text = f"defaults:\n  - config\n  - _self_\nslurm: {{setup: ['{watch.command}']}}\n"
    (watch.folder / "config2.yaml").write_text(text)
    told = refused_at_the_door(watch, [f"--config-dir={watch.folder}", "--config-name=config2"], monkeypatch, capsys)
    assert told.startswith("slurm.setup is ")


def test_environment_variables_open_no_door(watch: Watch, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("LORA_SWEEP_STAMP", "LORA_SWEEP_CACHE", "HYDRA_BASE_SWEEP_DIR", "PYTHONBREAKPOINT"):
        monkeypatch.setenv(name, f"$(touch {watch.canary})`touch {watch.canary}`../../x")
    monkeypatch.setattr(sys, "argv", ["src.train", "lora.rank=0", f"output_dir={watch.folder.parent / 'outputs'}"])
    with watch.on():
        assert front_door() == 2
    assert Path(watch.folder.parent / "outputs" / ".hydra").is_dir()


@pytest.mark.parametrize(
    "arguments",
    [
        ["--config-dir={f}", "+evil=x"],
        ["--config-dir={f}", "+evil=x", "hydra.run.dir={f}/mine", "slurm.setup=[module load cuda]"],
        ["hydra/job_logging=default", "hydra/hydra_logging=default", "hydra.run.dir={f}/mine", "hydra.job.name=mine"],
        ["hydra/launcher=submitit_slurm", "hydra.launcher.setup=[module load cuda]", "hydra.verbose=true"],
        ["hydra/launcher=submitit_local", "hydra.sweep.dir={f}/x", "hydra.sweep.subdir='${{hydra.job.num}}_x'"],
        ["hydra/launcher=slurm", "slurm=preemptible", "slurm.setup=[a]", "slurm.extra={{constraint:a100}}"],
    ],
    ids=["file", "file and choices", "logging", "submitit_slurm", "submitit_local", "slurm"],
)
def test_what_a_person_may_choose_is_taken(
    arguments: list[str], watch: Watch, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    group = watch.folder / "evil"
    group.mkdir()
    (group / "x.yaml").write_text(FRIENDLY)
    given = [text.format(f=watch.folder) for text in arguments]
    monkeypatch.setattr(sys, "argv", ["src.train", "--cfg", "job", *given])
    assert front_door() == 0, capsys.readouterr().err


@pytest.mark.parametrize(
    "name", ["wrap", "wra", "export_file", "chdir", "outp", "prolog", "bcast", "get-user-env", "uid"]
)
@pytest.mark.parametrize("option", ["{}", "{}=x", "-{}", "{} "])
def test_options_of_sbatch_that_name_commands_and_files_are_refused(option: str, name: str) -> None:
    spec = SlurmSpec(extra=FrozenMap({option.format(name): "x"}))
    assert not all(good for _, _, good, _ in slurm_checks(spec))


@pytest.mark.parametrize(
    "name", ["constraint", "qos", "exclusive", "nice", "gres", "mail-user", "mem-per-cpu", "reservation"]
)
def test_other_options_of_sbatch_are_taken(name: str) -> None:
    assert all(good for _, _, good, _ in slurm_checks(SlurmSpec(extra=FrozenMap({name: "x"}))))
