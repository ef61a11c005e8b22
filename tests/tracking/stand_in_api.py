"""What the stand-in server answers beside runs: accounts, projects, tables, views (workspaces, reports) and sweeps."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

ENTITY = "tester"
Variables = dict[str, Any]


@dataclass
class StoredSweep:
    """A sweep whose agent gets `commands`, one at each heartbeat, and then is told to leave."""

    definition: str
    commands: list[dict[str, Any]] = field(default_factory=list)
    agents: int = 0
    heartbeats: int = 0


@dataclass
class Api:
    """The part of the server's data that has nothing to do with a run.

    Attributes:
        views: by id, with type, displayName and spec as they were sent last.
        stale: ids of views that somebody has deleted.
        projects: that exist.
    """

    views: dict[str, dict[str, Any]] = field(default_factory=dict)
    stale: set[str] = field(default_factory=set)
    projects: list[str] = field(default_factory=lambda: ["lora-sweep"])
    sweeps: dict[str, StoredSweep] = field(default_factory=dict)

    def answer(self, operation: str, variables: Variables) -> dict[str, Any] | None:
        """The data of an answer; None if the operation is of another kind."""
        known = {
            "Viewer": self.viewer,
            "GetDefaultEntity": self.viewer,
            "ServerFeaturesQuery": lambda _: {"serverInfo": {"features": []}},
            "CreateArtifact": self.artifact,
            "ArtifactType": lambda _: {"project": None},
            "GetProjects": self.list_projects,
            "ProjectInternalId": self.project,
            "UpsertView2": self.upsert_view,
            "upsertView": self.upsert_view,
            "SweepWithRuns": self.sweep,
            "CreateAgent": self.create_agent,
            "Heartbeat": self.heartbeat,
        }
        return known[operation](variables) if operation in known else None

    def viewer(self, _: Variables) -> dict[str, Any]:
        own = {"id": "u", "username": ENTITY, "entity": ENTITY, "email": None, "admin": False, "flags": "{}"}
        return {"viewer": {**own, "teams": {"edges": []}, "apiKeys": {"edges": []}}}

    def artifact(self, _: Variables) -> dict[str, Any]:
        """A table is stored twice: as a file of its run, and as an artifact, which the server here has already."""
        return {"createArtifact": {"artifact": {"id": "a", "state": "COMMITTED", "artifactSequence": {}}}}

    def list_projects(self, _: Variables) -> dict[str, Any]:
        edges = [{"cursor": name, "node": self._project(name)} for name in self.projects]
        return {"models": {"edges": edges, "pageInfo": {"endCursor": None, "hasNextPage": False}}}

    def project(self, variables: Variables) -> dict[str, Any]:
        name = variables["projectName"]
        return {"project": {"id": "p", "internalId": "7"} if name in self.projects else None}

    def upsert_view(self, variables: Variables) -> dict[str, Any]:
        identity = variables.get("id") or f"view{len(self.views)}"
        if identity in self.stale:
            raise LookupError("view not found")
        self.views[identity] = {**variables, "spec": json.loads(variables["spec"])}
        kept = {name: variables[name] for name in ("name", "type", "displayName", "description", "spec")}
        project = self._project(variables["projectName"])
        return {
            "upsertView": {
                "view": {"id": identity, **kept, "project": project, "updatedAt": "2026-11-21T00:00:00"},
                "inserted": not variables.get("id"),
            }
        }

    def sweep(self, variables: Variables) -> dict[str, Any]:
        sweep = self.sweeps[variables["sweep"]]
        shown = {"id": "s", "name": variables["sweep"], "state": "RUNNING", "config": sweep.definition}
        return {"project": {"sweep": {**shown, "runs": {"edges": []}}}}

    def create_agent(self, variables: Variables) -> dict[str, Any]:
        self.sweeps[variables["sweep"]].agents += 1
        return {"createAgent": {"agent": {"id": variables["sweep"]}}}

    def heartbeat(self, variables: Variables) -> dict[str, Any]:
        sweep = self.sweeps[variables["id"]]
        sweep.heartbeats += 1
        running = any(json.loads(variables["runState"]).values())
        commands = [] if running else sweep.commands[:1] or [{"type": "exit"}]
        if not running:
            del sweep.commands[:1]
        return {"agentHeartbeat": {"agent": {"id": variables["id"]}, "commands": json.dumps(commands)}}

    def _project(self, name: str) -> dict[str, Any]:
        made = {"createdAt": "2026-11-21T00:00:00", "isBenchmark": False, "user": None}
        return {"__typename": "Project", "id": "p", "name": name, "entityName": ENTITY, **made}
