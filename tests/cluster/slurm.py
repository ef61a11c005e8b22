"""A real SLURM of one node, on this machine and for the tests alone: munged, slurmctld and slurmd, without cgroups,
systemd and accounting, in a folder of its own and on ports of its own.

Partition ``low`` gives way to ``high``: its jobs get GraceTime seconds and are requeued.
"""

from __future__ import annotations

import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

PROGRAMS = ("munged", "slurmctld", "slurmd", "srun", "sbatch", "squeue", "scontrol", "scancel")
WHERE = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
CORES = 2
MEGABYTES = 8000
GRACE_S = 8

CONF = """\
ClusterName=tests
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller_port}
SlurmdPort={node_port}
AuthType=auth/munge
CredType=cred/munge
AuthInfo=socket={folder}/munge.socket,cred_expire=10
SlurmUser={user}
SlurmdUser={user}
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
DefMemPerCPU=500
SwitchType=switch/none
MpiDefault=none
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
JobRequeue=1
KillWait=5
ReturnToService=2
{parameters}
SlurmdParameters=config_overrides
SchedulerParameters=sched_interval=2,bf_interval=2,batch_sched_delay=0
NodeName={host} NodeAddr=127.0.0.1 CPUs={cores} RealMemory={megabytes} State=UNKNOWN
PartitionName=low Nodes={host} Default=YES MaxTime=INFINITE PriorityTier=1 GraceTime={grace} State=UP
PartitionName=high Nodes={host} MaxTime=INFINITE PriorityTier=10 PreemptMode=OFF State=UP
"""


def absent() -> list[str]:
    """Programs that are not on this machine."""
    return [name for name in PROGRAMS if shutil.which(name, path=WHERE) is None]


@dataclass
class Slurm:
    """The cluster.

    Args:
        folder: of its own, with a short path, because it holds a socket.
        pass_signal: whether a preempted task gets the signal that it asked for; else SIGTERM.
    """

    folder: Path
    pass_signal: bool = True
    daemons: list[subprocess.Popen[bytes]] = field(default_factory=list)
    output: IO[bytes] | None = None
    ports: tuple[int, ...] = field(default_factory=lambda: _free_ports(2))

    @property
    def environment(self) -> dict[str, str]:
        """What a command needs to speak to this cluster."""
        return {"SLURM_CONF": str(self.folder / "slurm.conf"), "PATH": WHERE}

    def start(self) -> None:
        """Start the daemons and wait until the node takes jobs."""
        for name in ("state", "spool"):
            (self.folder / name).mkdir(parents=True)
        key = self.folder / "munge.key"
        key.write_bytes(secrets.token_bytes(128))
        key.chmod(0o400)
        (self.folder / "slurm.conf").write_text(CONF.format_map(self._values()))
        self.output = (self.folder / "daemons.log").open("wb")
        names = {"socket": "munge.socket", "key-file": "munge.key", "pid-file": "munged.pid", "log-file": "munged.log"}
        names["seed-file"] = "munge.seed"
        files = [f"--{option}={self.folder / name}" for option, name in names.items()]
        self._daemon("munged", "--foreground", "--force", "--num-threads=1", *files)
        wait_until((self.folder / "munge.socket").exists, 10)
        self._daemon("slurmctld", "-D")
        self._daemon("slurmd", "-D")
        wait_until(lambda: self.call("sinfo", "--noheader", "--format=%T").strip() == "idle", 60)

    def stop(self) -> None:
        """End all jobs, then the daemons, the last one first."""
        self.call("scancel", "--full", f"--user={_user()}")
        wait_until(lambda: not self.call("squeue", "--noheader"), 20, fail=False)
        for daemon in reversed(self.daemons):
            daemon.terminate()
        with ExitStack() as stack:
            if self.output is not None:
                stack.enter_context(self.output)
            for daemon in reversed(self.daemons):
                try:
                    daemon.wait(15)
                except subprocess.TimeoutExpired:
                    daemon.kill()
                    daemon.wait()

    def call(self, *command: str) -> str:
        """Standard output of one of SLURM's commands; nothing where it fails."""
        environment = os.environ | self.environment
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=60).stdout

    def facts(self, job: str) -> dict[str, str]:
        """``scontrol show job``."""
        words = self.call("scontrol", "--oneliner", "show", "job", job).split()
        return dict(word.split("=", 1) for word in words if "=" in word)

    def occupy(self, seconds: int = 3) -> str:
        """A job in ``high`` that needs all cores: those in ``low`` have to give way."""
        options = ("--parsable", "--partition=high", f"--cpus-per-task={CORES}", f"--chdir={self.folder}")
        return self.call("sbatch", *options, "--output=/dev/null", f"--wrap=sleep {seconds}").strip()

    def processes(self, job: str, *, managers: bool) -> list[int]:
        """Processes of a job, the youngest first; with SLURM's own that look after them on the node, or without."""
        number, found = self.facts(job)["JobId"], []
        for entry in Path("/proc").iterdir():
            try:
                words = (entry / "environ").read_bytes().split(b"\0") if entry.name.isdecimal() else []
                title = (entry / "cmdline").read_bytes()
            except OSError:
                continue
            own = f"SLURM_CONF={self.folder / 'slurm.conf'}".encode() in words
            step = title.startswith(f"slurmstepd: [{number}.".encode())
            if own and ((step and managers) or f"SLURM_JOB_ID={number}".encode() in words):
                found.append(int(entry.name))
        return sorted(found, reverse=True)

    def kill(self, job: str, *, managers: bool) -> None:
        """Kill all processes of a job outright; arguments as at `processes`."""
        for process in self.processes(job, managers=managers):
            try:
                os.kill(process, signal.SIGKILL)
            except ProcessLookupError:
                continue

    def _daemon(self, name: str, *arguments: str) -> None:
        program = shutil.which(name, path=WHERE)
        assert program is not None
        environment = os.environ | self.environment
        self.daemons.append(
            subprocess.Popen([program, *arguments], env=environment, stdout=self.output, stderr=self.output)
        )

    def _values(self) -> Mapping[str, object]:
        return {
            "host": socket.gethostname().partition(".")[0],
            "controller_port": self.ports[0],
            "node_port": self.ports[1],
            "folder": self.folder,
            "user": _user(),
            "parameters": "SlurmctldParameters=preempt_send_user_signal" if self.pass_signal else "",
            "cores": CORES,
            "megabytes": MEGABYTES,
            "grace": GRACE_S,
        }


def wait_until(condition: Callable[[], bool], seconds: float, *, fail: bool = True) -> bool:
    """Look ten times a second.

    Raises:
        TimeoutError: it has not come true.
    """
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            if fail:
                raise TimeoutError(f"not within {seconds} s")
            return False
        time.sleep(0.1)
    return True


def _free_ports(number: int) -> tuple[int, ...]:
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(number)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return tuple(one.getsockname()[1] for one in sockets)


def _user() -> str:
    return pwd.getpwuid(os.getuid()).pw_name
