"""Data sets from a hub: a stand-in server on this machine, asked by the real client in a process of its own."""

from __future__ import annotations

import hashlib
import io
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlparse

import pandas as pd
import pytest

ROOT = Path(__file__).resolve().parents[2]
ENTRY = "- config_name: {0}\n  data_files:\n  - {{split: train, path: {0}/train.parquet}}\n"
CARD = f"---\nconfigs:\n{ENTRY.format('one')}{ENTRY.format('two')}---\n"


def parquet(first: int, last: int) -> bytes:
    stream = io.BytesIO()
    pd.DataFrame({"text": [f"text {i}" for i in range(first, last)], "label": range(first, last)}).to_parquet(stream)
    return stream.getvalue()


# revision -> files; a revision is its own commit hash here
REPOSITORIES: dict[str, dict[str, dict[str, bytes]]] = {
    "some/scripted": {
        "main": {"README.md": b"", "scripted.py": b"raise SystemExit"},
        "refs/convert/parquet": {
            "one/train/0000.parquet": parquet(0, 20),
            "one/test/0000.parquet": parquet(20, 25),
            "two/train/0000.parquet": parquet(0, 3),
        },
    },
    "some/plain": {
        "main": {"README.md": CARD.encode(), "one/train.parquet": parquet(0, 9), "two/train.parquet": parquet(0, 4)}
    },
}


class Hub(BaseHTTPRequestHandler):
    """As much of the hub's interface as datasets uses to read Parquet files."""

    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""

    def do_GET(self) -> None:
        parts = unquote(urlparse(self.path).path).strip("/").split("/")
        if parts[0] == "datasets" and "resolve" in parts:
            self.resolve("/".join(parts[1:3]), "/".join(parts[4:]))
        elif parts[:2] == ["api", "datasets"] and len(parts) > 4:
            self.describe("/".join(parts[2:4]), parts[4], "/".join(parts[5:]))
        else:
            self.answer(404)

    do_HEAD = do_GET  # noqa: N815 - the server's own names

    def resolve(self, repository: str, rest: str) -> None:
        if repository not in REPOSITORIES:
            return self.answer(404, headers={"X-Error-Code": "RepoNotFound"})
        commit, files, name = revision_of(repository, rest)
        if name not in files:
            return self.answer(404, headers={"X-Error-Code": "EntryNotFound", "X-Repo-Commit": commit})
        etag = hashlib.sha1(files[name]).hexdigest()
        return self.answer(200, files[name], {"X-Repo-Commit": commit, "ETag": f'"{etag}"'})

    def describe(self, repository: str, what: str, rest: str) -> None:
        commit, files, folder = revision_of(repository, rest)
        paths = {"/".join(name.split("/")[:n]) for name in files for n in range(1, name.count("/") + 1)}
        entries = [{"type": "directory", "path": path, "size": 0, "oid": commit} for path in sorted(paths)]
        entries += [{"type": "file", "path": name, "size": len(files[name]), "oid": commit} for name in files]
        listing: object = [entry for entry in entries if not folder or str(entry["path"]).startswith(folder + "/")]
        if what == "revision":
            listing = {"id": repository, "sha": commit, "siblings": [{"rfilename": name} for name in files]}
        elif not listing:
            return self.answer(404, headers={"X-Error-Code": "EntryNotFound"})
        return self.answer(200, json.dumps(listing).encode(), {"Content-Type": "application/json"})

    def answer(self, code: int, body: bytes = b"", headers: dict[str, str] | None = None) -> None:
        self.send_response(code)
        for name, value in {**(headers or {}), "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


def revision_of(repository: str, rest: str) -> tuple[str, dict[str, bytes], str]:
    """Commit, files, and what of `rest` follows the revision, which may be named or be a commit."""
    for name, files in REPOSITORIES[repository].items():
        commit = hashlib.sha1(f"{repository}{name}".encode()).hexdigest()
        for prefix in (name, commit):
            if rest == prefix or rest.startswith(prefix + "/"):
                return commit, files, rest[len(prefix) + 1 :]
    raise AssertionError(rest)


CLIENT = """
import json, sys
from pathlib import Path
from src.data.sources import load_rows
from src.errors import HarnessError
from src.spec import TaskSpec
for path, subset, test_split, store in json.loads(sys.argv[1]):
    try:
        rows = load_rows(TaskSpec(path, "classification", subset=subset, test_split=test_split), Path(store))
        print(json.dumps({role: len(found) for role, found in rows.items()}))
    except HarnessError as error:
        print(json.dumps([type(error).__name__, str(error)]))
"""


@pytest.fixture
def endpoint() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_hub_data_sets(endpoint: str, tmp_path: Path) -> None:
    store, fresh = str(tmp_path / "store"), str(tmp_path / "fresh")
    asked = [
        ("some/plain", "two", None, store),
        ("some/plain", "three", None, store),
        ("some/plain", None, None, store),
        ("some/scripted", "one", "test", store),
        ("some/scripted", "two", None, fresh),
        ("some/unknown", None, None, store),
    ]
    environment = {name: value for name, value in os.environ.items() if not name.endswith("OFFLINE")}
    environment |= {"HF_ENDPOINT": endpoint, "HF_HOME": str(tmp_path / "home"), "NO_PROXY": "127.0.0.1"}
    command = [sys.executable, "-W", "error", "-c", CLIENT, json.dumps(asked)]
    result = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True, timeout=120)
    found = [json.loads(line) for line in result.stdout.splitlines()]
    assert found == [
        {"train": 4},
        ["ConfigError", "task.subset is 'three'; allowed: a configuration of some/plain: one, two."],
        ["ConfigError", "task.subset is not set; allowed: a configuration of some/plain: one, two."],
        {"train": 20, "test": 5},
        {"train": 3},
        [
            "HarnessError",
            "The data some/unknown cannot be loaded: Dataset 'some/unknown' doesn't exist on the Hub or cannot be "
            "accessed.",
        ],
    ]
    assert result.stderr == ""
