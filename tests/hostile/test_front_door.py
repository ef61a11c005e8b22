"""Code that a command line or a YAML file names is never run: any node, any group, files of other folders."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from src.train import cli
from tests.hostile.payloads import module_of, pickled
from tests.hostile.watch import Watch

TARGETS = (
    "os.system",
    "subprocess.Popen",
    "builtins.exec",
    "pathlib.Path.touch",
    "importlib.import_module",
    "evil.Evil",
)
TASK_NODES = (
    "+_target_",
    "+model._target_",
    "+task._target_",
    "+lora._target_",
    "+optim._target_",
    "+trainer._target_",
    "+tracking._target_",
    "+method._target_",
    "+halving._target_",
    "+evil._target_",
    "+evil.deep.er._target_",
)
HYDRA_NODES = (
    "hydra.launcher._target_",
    "+hydra.launcher.x._target_",
    "+hydra.launcher.x.y._target_",
    "hydra.sweeper._target_",
    "+hydra.sweeper.x._target_",
    "+hydra.sweeper.sampler._target_",
    "+hydra.callbacks.x._target_",
    "+hydra.callbacks.x.y._target_",
    "+hydra.job._target_",
    "+hydra.x._target_",
    "+hydra.job_logging._target_",
    "+hydra.help.x._target_",
    "+hydra.runtime.x._target_",
)
# What else runs code, reads secrets or leads elsewhere, with {c} for the canary's path and {f} for the hostile folder.
OTHERS = (
    "model.projections={{_target_:os.system,command:'touch {c}'}}",
    "lora.ranks={{_target_:os.system}}",
    "+hydra.callbacks.x='${{oc.create:{{_target_:os.system,command:touch}}}}'",
    "+hydra.launcher.x='${{oc.create:{{_target_:os.system,command:touch}}}}'",
    "+evil='${{oc.create:{{_target_:os.system,command:touch}}}}'",
    "+hydra.sweeper.x='${{oc.decode:\"{{_tar${{oc.env:NOTHING,''}}get_:os.system}}\"}}'",
    "+hydra.job_logging.handlers.x={{class:subprocess.Popen,args:'touch {c}'}}",
    "+hydra.job_logging.handlers.x={{class:logging.FileHandler,filename:'{c}'}}",
    "+hydra.job_logging.handlers.x={{'()':os.system,command:'touch {c}'}}",
    "+hydra.job_logging.handlers.x={{class:logging.StreamHandler,stream:'ext://evil'}}",
    "+hydra.job_logging.formatters.x={{'()':os.system}}",
    "+hydra.job_logging.formatters.x={{class:evil.Evil}}",
    "+hydra.job_logging.filters.x={{'()':os.system}}",
    "+hydra.hydra_logging.handlers.x={{class:subprocess.Popen,args:'touch {c}'}}",
    "+hydra.hydra_logging.handlers.x={{'()':os.system,command:'touch {c}'}}",
    "+hydra.hydra_logging.formatters.x={{'()':os.system}}",
    "+hydra.hydra_logging.handlers.x={{class:logging.FileHandler,filename:'{c}'}}",
    "+hydra.job.env_set={{PATH:'{f}'}}",
    "+hydra.job.env_set={{LD_PRELOAD:'{f}/evil.so'}}",
    "+hydra.job.env_copy=[HOME]",
    "hydra.output_subdir=../../x",
    "hydra.output_subdir='{f}'",
    "hydra.sweep.subdir=../../../x",
    "hydra.searchpath=[pkg://evil]",
    "hydra.searchpath=[structured://evil]",
    "hydra.searchpath=[http://127.0.0.1:9/x]",
    "task='../../../../../../{f}/task'",
    "+task='{f}/task'",
    "model='../minilm'",
    "hydra/launcher='../../evil'",
    "hydra/sweeper='{f}/evil'",
    "hydra/callbacks=evil",
    "study=../../x",
    "study='{f}/x'",
    "study='a\\0b'",
    "study='..'",
    "study='.'",
    "study='a/b'",
    "study='" + "x" * 300 + "'",
    "study='=cmd'",
    "study='<script>'",
    "study='a b'",
    "study='a\\nb'",
    "task.path='https://me:pa55word@example.org/x.csv'",
    "model.path='https://me:pa55word@example.org/x'",
    "tracking.entity='https://me:pa55word@example.org'",
    "output_dir='${{oc.env:WANDB_API_KEY}}'",
    "study='${{oc.env:HF_TOKEN}}'",
    "tracking.project='${{oc.env:AWS_SECRET_ACCESS_KEY,x}}'",
    "task.metric='{f}'",
    "task.metric=evil.py",
    "device='cuda:0; touch {c}'",
    "device='cuda:٣'",
    "lora.layers='\u0661-\u0663'",
    "lora.layers='" + "9" * 5000 + "-1'",
    "--experimental-rerun={f}/evil.pickle",
    "--config-name=../evil",
    "--config-name={f}/evil",
    "--config-dir={f}/nowhere",
)
# YAML files of another folder, chosen with +evil=x.
FILES = {
    "tag": "x: !!python/object/apply:os.system ['touch {c}']\n",
    "new tag": "x: !!python/object/new:os.system ['touch {c}']\n",
    "name tag": "x: !!python/name:os.system\n",
    "module tag": "x: !!python/module:evil\n",
    "callback": (
        "# @package _global_\nhydra:\n  callbacks:\n    x:\n      _target_: os.system\n      command: touch {c}\n"
    ),
    "launcher": "# @package _global_\nhydra:\n  launcher:\n    _target_: evil.Evil\n",
    "nested in launcher": "# @package hydra.launcher\nx:\n  _target_: subprocess.Popen\n  args: touch {c}\n",
    "sweeper": "# @package hydra.sweeper\n_target_: evil.Evil\n",
    "axes with a target": (
        "# @package _global_\nhydra:\n  mode: MULTIRUN\n  sweeper:\n    params:\n      +x._target_: os.system\n"
    ),
    "logging": "# @package hydra.job_logging\nhandlers:\n  x:\n    (): os.system\n    command: touch {c}\n",
    "logging class": (
        "# @package hydra.hydra_logging\nhandlers:\n  x:\n    class: subprocess.Popen\n    args: touch {c}\n"
    ),
    "environment": "# @package _global_\nhydra:\n  job:\n    env_set:\n      PATH: '{f}'\n",
    "defaults": "defaults:\n  - ../../../evil\n",
    "task": "# @package _global_\ntask:\n  _target_: os.system\n",
    "list": "# @package _global_\nmodel:\n  projections:\n    - _target_: os.system\n",
    "secret": "# @package _global_\nstudy: ${{oc.env:WANDB_API_KEY}}\n",
    "setup": (
        "# @package _global_\ndefaults:\n  - override /hydra/launcher: submitit_local\nhydra:\n"
        "  launcher:\n    x: 'a\n\n      touch {c}'\n"
    ),
    "no mapping": "- 1\n- 2\n",
    "binary": "\x00\x01\x02",
    "endless": "a: &a [x]\nb: &b [*a, *a, *a]\nc: [*b, *b\n",
}


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


def test_environment_variables_open_no_door(watch: Watch, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("LORA_SWEEP_STAMP", "LORA_SWEEP_CACHE", "HYDRA_BASE_SWEEP_DIR", "PYTHONBREAKPOINT"):
        monkeypatch.setenv(name, f"$(touch {watch.canary})`touch {watch.canary}`../../x")
    monkeypatch.setattr(sys, "argv", ["src.train", "lora.rank=0", f"output_dir={watch.folder.parent / 'outputs'}"])
    with watch.on():
        assert front_door() == 2
    assert Path(watch.folder.parent / "outputs" / ".hydra").is_dir()
