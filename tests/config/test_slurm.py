"""The group slurm: what it takes, and what it says of the rest."""

from __future__ import annotations

import pytest

from src.config import to_settings, to_spec
from src.config.compose import compose_config
from src.errors import ConfigError
from src.spec import SlurmSpec, run_id


def test_the_defaults_are_those_of_the_spec() -> None:
    assert to_settings(compose_config()).slurm == SlurmSpec()


def test_it_is_no_part_of_a_runs_identity() -> None:
    other = compose_config(["slurm=gpu", "slurm.partition=x"])
    assert run_id(to_spec(other)) == run_id(to_spec(compose_config()))
    assert to_settings(other).slurm.gpus == 1


def test_options_of_sbatch_are_texts() -> None:
    config = compose_config(["slurm.extra={constraint: a100, exclusive: true, nice: 100}", "slurm.setup=[a b, 'c']"])
    slurm = to_settings(config).slurm
    assert slurm.extra == {"constraint": "a100", "exclusive": "true", "nice": "100"}
    assert slurm.setup == ("a b", "c")


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("slurm.cpus=0", "slurm.cpus is 0; allowed: a whole number of at least 1."),
        ("slurm.memory=0", "slurm.memory is 0.0; allowed: GB above 0"),
        ("slurm.notice=60", "slurm.notice is 60; allowed: whole seconds from 10 to 59"),
        ("slurm.partition='a b'", "slurm.partition is 'a b'"),
        ("slurm.setup=['']", "slurm.setup is ['']"),
        ("slurm.extra=3", "slurm.extra is 3; allowed: {option: value, ...}"),
        ("slurm.extra={a: null}", "slurm.extra is {'a': None}"),
        ("slurm.extra={exclusive: false}", "slurm.extra is {'exclusive': False}"),
        ("slurm.extra={array: 0-9}", "not account, array,"),
        ("slurm.extra={--qos: high}", "without its dashes"),
        ("slurm.cells_per_task=0", "slurm.cells_per_task is 0"),
        ("slurm.requeues=-1", "slurm.requeues is -1"),
    ],
)
def test_what_is_wrong_is_told(override: str, message: str) -> None:
    with pytest.raises(ConfigError) as error:
        to_settings(compose_config(["slurm.time=1", "slurm.notice=10", override]))
    assert message in str(error.value)
