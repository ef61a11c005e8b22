"""The process's one connection to wandb: silent, without captures of any kind, online or offline as is possible.

The service process that wandb starts is shared by all runs of this process, and so is the knowledge that the server
is out of reach: it is found out, and waited for, only once.
"""

from __future__ import annotations

import os
import threading
from typing import Any, Literal

from src.spec import TrackingSpec
from src.tracking.trouble import LOG, say_once

# wandb's reports about its own errors go to the same server and would hold up the exit when that is gone.
os.environ.setdefault("WANDB_ERROR_REPORTING", "false")

import wandb
from wandb.sdk.lib import wbauth

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
SYNC_LATER = "send them later with `wandb sync <run folder>/wandb/offline-run-*`"


class Session:
    """What all runs of a process share.

    Attributes:
        reachable: False once the server has failed to start a run, or to take a run's data in time.
        starting: held while a run starts, so that a server out of reach is waited for by one run only.
    """

    def __init__(self) -> None:
        self.reachable = True
        self.starting = threading.Lock()


class Listener:
    """Receives what wandb would print on the terminal."""

    def info(self, text: str) -> None:
        LOG.debug("%s", text)

    def warning(self, text: str) -> None:
        text = text.removeprefix("wandb: ").replace("WARNING ", "").replace("ERROR ", "")
        if "uploading data" in text or "Timed out finishing" in text:
            say_upload_trouble(text)
        else:
            say_once(text, f"W&B: {text}")

    error = warning


def say_upload_trouble(cause: object) -> None:
    """Refused or lost uploads raise nothing in wandb: tell the person, once."""
    say_once(
        "upload",
        f"W&B did not take all data ({cause}). Training is not affected and all rows are on disk; what is missing can "
        "be sent later with `wandb sync --no-skip-online <run folder>/wandb/run-*`.",
    )


def connect(spec: TrackingSpec) -> Mode:
    """Start wandb's service silently and find out how runs are to be recorded."""
    settings = wandb.Settings(**QUIET)
    connection = wandb.setup(settings=settings)
    wandb.termsetup(settings, Listener())
    return resolve_mode(spec.mode, connection.settings)


def resolve_mode(wanted: str, settings: wandb.Settings) -> Mode:
    """Online, offline or disabled.

    Args:
        wanted: TrackingSpec.mode; ``auto`` leaves it to `settings`.
        settings: wandb's own, resolved from WANDB_MODE and its settings files.
    """
    mode = str(settings.mode) if wanted == "auto" else wanted
    if mode == "disabled":
        return "disabled"
    if mode not in {"online", "run", "shared"}:
        return "offline"
    if has_key(settings):
        return "online"
    if wanted == "online":
        say_once(
            "key", f"tracking.mode is online, but no W&B key is configured: runs are recorded offline; {SYNC_LATER}."
        )
    return "offline"


def has_key(settings: wandb.Settings) -> bool:
    """Whether wandb finds credentials in the environment, the netrc file or its settings, without asking."""
    host = wbauth.HostUrl(settings.base_url, app_url=settings.app_url)
    try:
        found = wbauth.authenticate_session(host=host, source="tracking", prompt=False, update_session=False)
    except Exception as error:
        say_once("key", f"The W&B key cannot be used ({error}): runs are recorded offline; {SYNC_LATER}.")
        return False
    return found is not None


SESSION = Session()
