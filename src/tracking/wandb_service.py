"""The process's one connection to wandb: silent, without captures of any kind, online or offline as is possible."""

from __future__ import annotations

import atexit
import logging
import os
import re
import threading
from contextlib import suppress
from typing import Any, Literal

import wandb
from wandb.sdk import wandb_setup
from wandb.sdk.lib import wbauth

from src.tracking.sweep_agent import AgentRun, take_agent_run
from src.tracking.trouble import LOG, cause, say_once

Mode = Literal["online", "offline", "disabled"]
QUIET: dict[str, Any] = {
    "silent": True,
    "console": "off",
    "disable_git": True,
    "disable_code": True,
    "save_code": False,
    "symlink": False,
    "x_disable_meta": True,
    "x_disable_machine_info": True,
    "x_disable_stats": True,
    "x_save_requirements": False,
}
OFFLINE = "runs are recorded offline; send them later with `wandb sync <run folder>/wandb/offline-run-*`."


class Shared:
    """What all trackers of a process share.

    Attributes:
        reachable: False once the server has failed to start a run; it is not asked again.
        lost_data: whether the server did not take all data of some run.
        starting: held while a run starts, so that only one run waits for a server that does not answer.
        agent: what ``wandb agent`` wants of this process, None outside of one.
    """

    def __init__(self) -> None:
        self.reachable = True
        self.lost_data = False
        self.starting = threading.Lock()
        self.agent: AgentRun | None = None
        self._claimed = False

    def claim_agent_run(self) -> AgentRun | None:
        """The agent's run, for the first who asks: a process that trains several cells can attach one of them."""
        if self._claimed:
            return None
        self._claimed = True
        return self.agent


SHARED = Shared()


class Listener:
    """Receives what wandb would print; refused and lost uploads are known from nothing else."""

    def info(self, text: str) -> None:
        """Progress, retries, log-in."""
        LOG.debug("%s", text)

    def warning(self, text: str) -> None:
        """Trouble with a run or its uploads."""
        text = re.sub(r"^wandb: (WARNING |ERROR )?", "", text, flags=re.MULTILINE)
        if "already exists with the same content" in text:
            LOG.debug("%s", text)
        elif "uploading data" in text or "Timed out finishing" in text:
            say_upload_trouble(text.split(".")[0])
        else:
            say_once(text, f"W&B: {text}")

    error = warning


def say_upload_trouble(what: str) -> None:
    """Say, and remember, that rows of an online run are missing on the server."""
    SHARED.lost_data = True
    say_once(
        "upload",
        f"W&B did not take all data ({what}). Training is not affected and all rows are on disk: send what is missing "
        "later with `wandb sync --no-skip-online <run folder>/wandb/run-*`.",
    )


def connect() -> wandb.Settings:
    """Start wandb's service, silently; gives the settings that wandb reads from environment and files."""
    SHARED.agent = SHARED.agent or take_agent_run()
    # wandb's reports about its own errors go to the same server and would hold up the exit when that is gone.
    os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
    # wandb keeps log files of its own; on a full disk each of their lines would print a traceback.
    logging.raiseExceptions = False
    quiet = wandb.Settings(**QUIET)
    settings = wandb.setup(settings=quiet).settings
    wandb.termsetup(quiet, Listener())
    # Registered anew so that it comes before wandb's own hook, which prints a traceback if the service has died.
    atexit.unregister(leave)
    atexit.register(leave)
    return settings


def connect_anew() -> None:
    """Start a second service beside the first, for a run that could not start and is to start again.

    The first one refuses that run's id for as long as it lives, and cannot be ended, for it may serve other runs.
    """
    wandb_setup._singleton = None
    os.environ.pop("WANDB_SERVICE", None)
    connect()


def leave() -> None:
    """End the service at exit; a run that nobody has finished counts as failed."""
    with suppress(Exception, SystemExit):
        wandb.teardown(exit_code=1)


def resolve_mode(wanted: str, settings: wandb.Settings) -> Mode:
    """Online, offline or disabled.

    Args:
        wanted: TrackingSpec.mode; ``auto`` leaves it to `settings`.
        settings: wandb's own, from WANDB_MODE and its settings files; online unless these say otherwise.
    """
    mode = str(settings.mode) if wanted == "auto" else wanted
    if mode == "disabled":
        return "disabled"
    if mode not in {"online", "run", "shared"}:
        return "offline"
    if has_key(settings):
        return "online"
    if "online" in (wanted, os.environ.get("WANDB_MODE")):
        say_once("key", f"W&B was asked to be online, but no API key is configured: {OFFLINE}")
    return "offline"


def has_key(settings: wandb.Settings) -> bool:
    """Whether wandb finds credentials in the environment, the netrc file or its settings, without asking."""
    host = wbauth.HostUrl(settings.base_url, app_url=settings.app_url)
    try:
        found = wbauth.authenticate_session(host=host, source="tracking", prompt=False, update_session=False)
    except Exception as error:
        say_once("key", f"The W&B key cannot be used ({cause(error)}): {OFFLINE}")
        return False
    return found is not None
