"""Sends a study's workspace and report to W&B, or only writes them down where there is no key."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import wandb

from src.errors import HarnessError, WriteError
from src.spec import TrackingSpec
from src.tracking.board import Board, Published
from src.tracking.panels import build_report, build_workspace, wr, ws
from src.tracking.summary import keep_ids, read_ids
from src.tracking.trouble import LOG, cause
from src.tracking.wandb_service import connect, resolve_mode

T = TypeVar("T")


def publish(spec: TrackingSpec, board: Board) -> Published:
    """Build both, write them to `board.draft`, and send them if there is a key; see src.tracking.publish_board.

    Raises:
        HarnessError: W&B cannot be used, refuses, or does not answer in time.
        WriteError: the file cannot be written.
    """
    try:
        mode = resolve_mode(spec.mode, connect())
    except Exception as error:
        raise HarnessError(f"W&B cannot be used ({cause(error)}).") from error
    _write_draft(spec, board)
    if mode != "online":
        return Published(board.draft)
    try:
        return within(spec.init_timeout_s + spec.finish_timeout_s, lambda: _send(spec, board))
    except Exception as error:
        raise HarnessError(
            f"W&B does not take the dashboard ({cause(error)}). What it should have got is in {board.draft}; the same "
            "command sends it again."
        ) from error


def within(seconds: float, call: Callable[[], T]) -> T:
    """The result of a call that may hang.

    Raises:
        TimeoutError: it takes longer; its thread is left behind.
        Exception: what the call raises.
    """
    results: list[T] = []
    errors: list[Exception] = []

    def work() -> None:
        try:
            results.append(call())
        except Exception as error:
            errors.append(error)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(seconds)
    if errors:
        raise errors[0]
    if not results:
        raise TimeoutError(f"no answer within {seconds:g} s")
    return results[0]


def _write_draft(spec: TrackingSpec, board: Board) -> None:
    # With an entity the library would ask W&B for the project.
    workspace = build_workspace(board, spec.project, "")._to_model()
    report = build_report(board, spec.project, "")._to_model()
    content = {
        "entity": spec.entity,
        "project": spec.project,
        "workspace": {"type": "project-view", "displayName": workspace.display_name, "spec": _plain(workspace.spec)},
        "report": {"type": "runs", "displayName": report.display_name, "spec": _plain(report.spec)},
    }
    _write(board.draft, json.dumps(content, indent=1) + "\n")


def _plain(spec: Any) -> Any:
    return json.loads(spec.model_dump_json(by_alias=True, exclude_none=True))


def _write(path: Path, text: str) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        draft = path.with_name(f".{path.name}")
        draft.write_text(text)
        draft.replace(path)
    except OSError as error:
        raise WriteError(f"Cannot write {path}: {error.strerror or error}.") from error


def _send(spec: TrackingSpec, board: Board) -> Published:
    entity = spec.entity or wandb.Api().default_entity
    if not entity:
        raise ValueError("the account has no default entity: name one with --entity")
    workspace, report = build_workspace(board, spec.project, entity), build_report(board, spec.project, entity)
    _replace(board.folder, "workspace", partial(_save_workspace, workspace))
    _replace(board.folder, "report", partial(_save_report, report))
    return Published(board.draft, workspace.url, report.url)


def _replace(folder: Path, kind: str, save: Callable[[str], str]) -> None:
    """Save over what was sent before, or anew if somebody has removed it there; keep the id."""
    known = read_ids(folder).get(kind, "")
    try:
        identity = save(known)
    except Exception as error:
        if not known:
            raise
        LOG.debug("W&B does not replace the %s (%s); it gets a new one", kind, cause(error))
        identity = save("")
    keep_ids(folder, **{kind: identity})


def _save_workspace(workspace: ws.Workspace, known: str) -> str:
    """Id and name in one, for W&B wants both; the library has no public name for either."""
    workspace._internal_id, _, workspace._internal_name = known.partition(" ")
    workspace.save()
    return f"{workspace._internal_id} {workspace._internal_name}"


def _save_report(report: wr.Report, known: str) -> str:
    report.id = known
    report.save()
    return report.id
