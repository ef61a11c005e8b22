"""Errors become one paragraph that names key, value and what is allowed, and the right exit code."""

from __future__ import annotations

import pytest

from src.config.compose import compose_config
from src.config.messages import FOLDERS, exit_code, paragraph, report
from src.errors import ConfigError, HarnessError, InterruptedRunError


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("lora.rank=abc", "lora.rank is 'abc'; allowed: a whole number, or null."),
        ("lora.rank=1.5", "lora.rank is '1.5'; allowed: a whole number, or null."),
        ("rerun=maybe", "rerun is 'maybe'; allowed: true or false."),
        ("task.text=null", "task.text is 'null'; allowed: text."),
        ("tracking=foo", "tracking is 'foo'; allowed: none, wandb."),
        (
            "+sweep=foo",
            "sweep is 'foo'; allowed: amplification, grid, intrinsic_dimension, methods, rank_curve,",
        ),
        ("optim.lrr=1", "There is no key optim.lrr; did you mean optim.lr? Keys there: lr, head_lr, weight_decay,"),
        (
            "modle=gpt2",
            "There is no key modle; did you mean model? Keys there: cache_dir, device, halving, lora, method,",
        ),
        ("hydra.foo=1", "There is no key hydra.foo."),
        ("lora.rank.x=3", "lora.rank is '3'; allowed: a whole number, or null."),
        ("rank", "rank is not of the form key=value"),
        ("lora=3", "Config group override must be a string or a list."),
    ],
)
def test_wrong_compositions_are_told_in_one_line_and_exit_with_2(override: str, message: str) -> None:
    with pytest.raises(Exception) as caught:
        compose_config([override])
    text = paragraph(caught.value)
    assert text.startswith(message)
    assert "\n" not in text
    assert exit_code(caught.value) == 2


@pytest.mark.parametrize(
    ("error", "code", "text"),
    [
        (ConfigError("lora.rank", 0, "1 and more"), 2, "lora.rank is 0; allowed: 1 and more."),
        (HarnessError("No network."), 1, "No network."),
        (InterruptedRunError("Stopped."), 130, "Stopped."),
        (KeyboardInterrupt(), 130, "Interrupted; the same command continues."),
        (
            PermissionError(13, "Permission denied", "out/x"),
            1,
            f"The system cannot use out/x: Permission denied. {FOLDERS}",
        ),
        (
            OSError(28, "No space left on device"),
            1,
            f"The system cannot use a file: No space left on device. {FOLDERS}",
        ),
    ],
)
def test_codes_and_texts_of_our_own_errors(error: BaseException, code: int, text: str) -> None:
    assert (exit_code(error), paragraph(error)) == (code, text)


def test_a_bug_is_not_taken_for_a_wrong_config() -> None:
    try:
        int("x")
    except ValueError as error:
        assert exit_code(error) == 1
        assert "HYDRA_FULL_ERROR=1" in paragraph(error)


@pytest.mark.parametrize(("setting", "shown"), [("1", True), ("0", False)])
def test_traceback_only_on_request(
    setting: str, shown: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HYDRA_FULL_ERROR", setting)
    try:
        raise HarnessError("No network.")
    except HarnessError as error:
        assert report(error) == 1
    err = capsys.readouterr().err
    assert ("Traceback" in err) is shown
    assert err.endswith("No network.\n")
