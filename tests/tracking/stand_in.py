"""A small stand-in for the W&B server on the loopback interface: it keeps what it is sent and can misbehave.

It answers what wandb-core asks during a run (POST /graphql, POST .../file_stream, PUT of files) over HTTP/1.1 with
Content-Length. Lines of a run's files are kept under the number (offset) that the file stream gives them, so that a
line which comes again takes the place of the first, as on the real server.
"""

from __future__ import annotations

import json
import re
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from tests.tracking.stand_in_api import ENTITY, Api

KEY = "0123456789" * 4
KINDS = ("graphql", "file_stream", "put")


@dataclass
class StoredRun:
    """What the server knows of one run.

    Attributes:
        lines: rows of the history by line number.
        received: how many rows came, those that came again included.
    """

    name: str
    variables: dict[str, Any] = field(default_factory=dict)
    lines: dict[int, dict[str, Any]] = field(default_factory=dict)
    received: int = 0
    summary: dict[str, Any] = field(default_factory=dict)
    config: dict[str, Any] = field(default_factory=dict)
    exit_code: int | None = None

    @property
    def history(self) -> list[dict[str, Any]]:
        """Rows by their number (``_step``); of several with one, which `wandb sync` can send, the last counts."""
        rows = {self.lines[number]["_step"]: self.lines[number] for number in sorted(self.lines)}
        return [rows[step] for step in sorted(rows)]

    @property
    def num_lines(self) -> int:
        """The number that the next line has."""
        return max(self.lines, default=-1) + 1

    def plain_config(self) -> dict[str, Any]:
        """The config without W&B's wrapping ``{key: {"value": ...}}`` and its own ``_wandb``."""
        return {key: item["value"] for key, item in self.config.items() if key != "_wandb"}


class StandIn(ThreadingHTTPServer):
    """The server.

    Attributes:
        behaviour: for ``graphql``, ``file_stream`` and ``put``: an HTTP status, or ``hang`` for no answer at all.
        delay: seconds by which every answer is held back.
        bodies: every request's path and body as text.
        api: what is not about runs.
        broken: set when what `break_at` asks for has happened.
    """

    daemon_threads = True
    block_on_close = False

    def __init__(self, runs: dict[str, StoredRun] | None = None) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.runs: dict[str, StoredRun] = {} if runs is None else runs
        self.behaviour: dict[str, int | str] = {}
        self.delay = 0.0
        self.bodies: list[tuple[str, str]] = []
        self.api = Api()
        self.lock = threading.Lock()
        self.closing = threading.Event()
        self.broken = threading.Event()
        self._moment: tuple[str, int | str] | None = None
        self.thread = threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def __enter__(self) -> StandIn:
        self.thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop()

    def stop(self) -> None:
        """From now on connections are refused, and those that are open are closed without an answer."""
        self.closing.set()
        self.shutdown()
        self.thread.join()
        self.server_close()

    def break_down(self, fault: int | str) -> None:
        """From now on every request meets the fault: an HTTP status, ``hang``, or ``gone`` for a server that is not."""
        if fault == "gone":
            self.closing.set()
            threading.Thread(target=self.stop, daemon=True).start()
        else:
            self.behaviour.update(dict.fromkeys(KINDS, fault))
        self.broken.set()

    def break_at(self, moment: str, fault: int | str) -> None:
        """Break down when the first request of a kind comes: ``init``, ``rows`` (after it), or ``finish``."""
        self._moment = (moment, fault)

    def meet(self, moment: str) -> None:
        """A request of a kind has come."""
        with self.lock:
            due = self._moment is not None and self._moment[0] == moment and not self.broken.is_set()
            if due and self._moment is not None:
                self.break_down(self._moment[1])

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that goes away early is part of the tests, not worth a traceback."""

    def run_of(self, name: str) -> StoredRun:
        return self.runs.setdefault(name, StoredRun(name))


class Handler(BaseHTTPRequestHandler):
    server: StandIn
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0))).decode()
        with self.server.lock:
            self.server.bodies.append((self.path, body))
        kind = "graphql" if self.path == "/graphql" else "file_stream"
        content = json.loads(body)
        if kind == "graphql" and "UpsertBucket" in content["query"]:
            self.server.meet("init")
        if content.get("complete"):
            self.server.meet("finish")
        if self.misbehaves(kind):
            return
        if kind == "graphql":
            try:
                self.answer(200, {"data": self.graphql(content)})
            except LookupError as error:
                self.answer(200, {"data": None, "errors": [{"message": str(error)}]})
        elif self.path.endswith("/file_stream"):
            has_rows = self.file_stream(self.path.split("/")[4], content)
            self.answer(200, {"exitcode": None, "limits": {}})
            if has_rows:
                self.server.meet("rows")
        else:
            self.answer(404, {})

    def do_PUT(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        with self.server.lock:
            self.server.bodies.append((self.path, body.decode(errors="replace")))
        if not self.misbehaves("put"):
            self.answer(200, {})

    def misbehaves(self, kind: str) -> bool:
        self.server.closing.wait(self.server.delay)
        wanted = self.server.behaviour.get(kind, 200)
        if self.server.closing.is_set():
            wanted = "gone"
        if wanted == "hang":
            self.server.closing.wait()
        if isinstance(wanted, str):
            self.close_connection = True
        elif wanted != 200:
            self.answer(wanted, {"errors": [{"message": f"refused with {wanted}"}]})
        return wanted != 200

    def answer(self, status: int, content: dict[str, Any]) -> None:
        data = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def graphql(self, request: dict[str, Any]) -> dict[str, Any]:
        query, variables = request["query"], request.get("variables") or {}
        (operation,) = re.findall(r"^\s*(?:query|mutation)\s+(\w+)", query)[:1] or [""]
        with self.server.lock:
            if operation == "UpsertBucket":
                return self.upsert(variables)
            if operation == "RunResumeStatus":
                return {"model": self.resume_status(variables)}
            if operation == "CreateRunFiles":
                return {"createRunFiles": self.upload_urls(variables)}
            return self.server.api.answer(operation, variables) or {}

    def upsert(self, variables: dict[str, Any]) -> dict[str, Any]:
        inserted = variables["name"] not in self.server.runs
        run = self.server.run_of(variables["name"])
        run.variables.update({key: value for key, value in variables.items() if value is not None})
        if variables.get("config"):
            run.config = json.loads(variables["config"])
        project = {"id": "p", "name": variables.get("project"), "entity": {"id": "e", "name": ENTITY}}
        bucket = {
            "id": f"id-{run.name}",
            "name": run.name,
            "displayName": run.variables.get("displayName"),
            "config": json.dumps(run.config),
            "project": project,
            "historyLineCount": run.num_lines,
        }
        return {"upsertBucket": {"bucket": bucket, "inserted": inserted}}

    def resume_status(self, variables: dict[str, Any]) -> dict[str, Any]:
        run = self.server.runs.get(variables["name"])
        bucket = run and {
            "id": f"id-{run.name}",
            "name": run.name,
            "summaryMetrics": json.dumps(run.summary),
            "displayName": run.variables.get("displayName"),
            "logLineCount": 0,
            "historyLineCount": run.num_lines,
            "eventsLineCount": 0,
            "historyTail": json.dumps([json.dumps(row) for row in run.history[-1:]]),
            "eventsTail": "[]",
            "config": json.dumps(run.config),
            "tags": run.variables.get("tags"),
            "wandbConfig": json.dumps({"t": 1}),
        }
        return {"id": "p", "name": variables["project"], "entity": {"id": "e", "name": ENTITY}, "bucket": bucket}

    def upload_urls(self, variables: dict[str, Any]) -> dict[str, Any]:
        files = [{"name": name, "uploadUrl": f"{self.server.url}/put/{name}"} for name in variables["files"]]
        return {"runID": variables["run"], "uploadHeaders": [], "files": files}

    def file_stream(self, name: str, content: dict[str, Any]) -> bool:
        """Keep what came; whether rows were among it."""
        with self.server.lock:
            run = self.server.run_of(name)
            files = content.get("files") or {}
            history = files.get("wandb-history.jsonl", {"offset": 0, "content": []})
            run.lines.update(enumerate(map(json.loads, history["content"]), start=history["offset"]))
            run.received += len(history["content"])
            for line in files.get("wandb-summary.json", {}).get("content", []):
                run.summary = json.loads(line)
            if content.get("complete"):
                run.exit_code = content.get("exitcode")
            return bool(history["content"])

    def log_message(self, format: str, *args: object) -> None:
        """Nothing on the terminal."""
