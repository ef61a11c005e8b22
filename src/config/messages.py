"""Any error to one paragraph and an exit code: 2 for a wrong config, 130 for an interrupt, 1 for all else."""

from __future__ import annotations

import difflib
import os
import sys
import traceback
from collections.abc import Callable, Sequence

from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from omegaconf.errors import ConfigAttributeError, ConfigKeyError, OmegaConfBaseException, ValidationError

from src.config.words import allowed_type, hint_of, names_beside
from src.errors import ConfigError, HarnessError, InterruptedRunError, brief, hide_secrets
from src.experiment.processes.signals import INTERRUPTED

FULL_ERROR = "HYDRA_FULL_ERROR"
FOLDERS = "Results go to output_dir, what is fetched to cache_dir; both must be folders that can be written."
LONGEST = 600  # characters that are taken of another library's message
# Lines of Hydra's and OmegaConf's messages that speak of their own insides.
_NOISE = ("reference_type=", "object_type=", "See https://", "Config search path", "provider=", "To append to your")


def report(error: BaseException) -> int:
    """Print an error to stderr, with its traceback where HYDRA_FULL_ERROR=1 asks for it; returns the exit code."""
    if os.environ.get(FULL_ERROR) == "1":
        print(hide_secrets("".join(traceback.format_exception(error))), end="", file=sys.stderr)
    if isinstance(error, BrokenPipeError):
        # Who read our output, such as `head`, has enough; at its end Python would try to write once more.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    else:
        print(paragraph(error), file=sys.stderr)
    return exit_code(error)


def run_command(arguments: Sequence[str], usage: str | None, work: Callable[[], object]) -> int:
    """A command from its arguments to its exit code: `usage` where help is asked for, every error in one paragraph."""
    if {"-h", "--help"} & set(arguments):
        print(usage)
        return 0
    try:
        work()
    except (Exception, KeyboardInterrupt) as error:
        return report(error)
    return 0


def exit_code(error: BaseException) -> int:
    """The process's exit code for an error."""
    if isinstance(error, KeyboardInterrupt):
        return InterruptedRunError.exit_code
    if isinstance(error, HarnessError):
        return error.exit_code
    return ConfigError.exit_code if _is_composition_error(error) else HarnessError.exit_code


def paragraph(error: BaseException) -> str:
    """What a person needs to know of an error; no traceback, no passwords."""
    return hide_secrets(_paragraph(error))


def _paragraph(error: BaseException) -> str:
    if isinstance(error, KeyboardInterrupt):
        return str(error) or INTERRUPTED
    if isinstance(error, HarnessError):
        return str(error)
    if _is_composition_error(error):
        return _composition_error(error)
    if isinstance(error, OSError) and error.strerror:
        return f"The system cannot use {brief(str(error.filename or 'a file'))}: {error.strerror}. {FOLDERS}"
    return f"{type(error).__name__}: {_flat(error)} This is not expected; {FULL_ERROR}=1 shows where it happened."


def no_such_key(key: str) -> str:
    """``There is no key lora.rnk; did you mean lora.rank? Keys there: ...``."""
    names = names_beside(key)
    group, _, last = key.rpartition(".")
    near = difflib.get_close_matches(last, names, n=1)
    hint = f"; did you mean {'.'.join(filter(None, [group, near[0]]))}?" if near else "."
    return f"There is no key {brief(key)}{hint}" + (f" Keys there: {', '.join(names)}." if names else "")


def _is_composition_error(error: BaseException) -> bool:
    if isinstance(error, (HydraException, OmegaConfBaseException)):
        return True
    # Hydra raises a bare ValueError for some overrides, such as lora=3.
    frames = list(traceback.walk_tb(error.__traceback__))
    return isinstance(error, ValueError) and frames[-1][0].f_globals["__name__"].startswith("hydra.")


def _composition_error(error: BaseException) -> str:
    cause = error.__cause__
    if isinstance(error, MissingConfigException) and error.missing_cfg_file and error.options:
        group, _, name = error.missing_cfg_file.rpartition("/")
        return str(ConfigError(group, name, ", ".join(error.options)))
    if isinstance(error, OverrideParseException):
        given = brief(str(error.override))
        return f"{given} is not of the form key=value; quote what is special to Hydra: 'key=\"value\"'."
    if isinstance(cause, (ConfigAttributeError, ConfigKeyError)) and cause.full_key:
        return no_such_key(cause.full_key)
    if isinstance(cause, ValidationError) and cause.full_key and hint_of(cause.full_key) is not None:
        return str(ConfigError(cause.full_key, _given(error), allowed_type(cause.full_key)))
    if str(error).startswith("Ambiguous value"):
        return f"{brief(_quoted(error))} lists several values; add -m to sweep over them, or quote the value."
    hint = ""
    if str(error).startswith("Config group override"):
        hint = "A group takes the name of a file in conf/; one key is set by its dotted name, such as lora.rank=3."
    return " ".join(filter(None, [_flat(error), _flat(cause) if cause else "", hint]))


def _given(error: BaseException) -> str:
    """Value in ``Error merging override lora.rank=abc``."""
    return str(error).partition("=")[2]


def _quoted(error: BaseException) -> str:
    """Override in ``Ambiguous value for argument 'lora.rank=1,2'``."""
    return str(error).splitlines()[0].partition("'")[2].rstrip("'")


def _flat(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines()]
    text = " ".join(line for line in lines if line and not line.startswith(_NOISE))
    text = brief(text, LONGEST)
    return text if text.endswith((".", "!", "?")) else f"{text}."
