"""A Slurm of the tests' own: one controller and a few node daemons on this host, with a munge,
ports and files that nobody else has. Several can run side by side."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path

import psutil

NODES = 4
GPUS = ("/dev/zero", "/dev/null")  # a GPU is a device file to Slurm; nothing opens these
CONF = """\
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
AuthInfo=socket={folder}/munge.socket
SlurmUser=root
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd-%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
SchedulerParameters=batch_sched_delay=0,sched_min_interval=20000,sched_interval=1,bf_interval=1
SlurmdParameters=config_overrides
ReturnToService=2
MpiDefault=none
KillWait=5
SlurmdTimeout=6
GresTypes=gpu
NodeName=DEFAULT CPUs=4 RealMemory=4000 Gres=gpu:{gpus}
NodeName=n[1-{nodes}] NodeHostname={host} NodeAddr=127.0.0.1 Port=[{first}-{last}]
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
JobRequeue=1
PartitionName=debug Nodes=ALL Default=YES MaxTime=INFINITE State=UP PreemptMode=OFF
PartitionName=spare Nodes=ALL MaxTime=INFINITE State=UP PriorityTier=1 PreemptMode=CANCEL
PartitionName=urgent Nodes=ALL MaxTime=INFINITE State=UP PriorityTier=100 PreemptMode=OFF
"""


class Cluster:
    """Start it before use and close it after; `node_dies` is for tests that want that."""

    def __init__(self) -> None:
        # short: a socket's path has 107 bytes at most
        self.folder = Path(tempfile.mkdtemp(prefix="stroem-slurm-"))
        self.conf = self.folder / "slurm.conf"

    @property
    def environment(self) -> dict[str, str]:
        """Where Slurm's programs find this cluster."""
        return {"SLURM_CONF": str(self.conf)}

    def start(self) -> None:
        self.folder.chmod(0o755)
        (self.folder / "state").mkdir()
        (self.folder / "munge.key").write_bytes(os.urandom(128))
        (self.folder / "munge.key").chmod(0o400)
        first = free_range(NODES + 1)
        self.conf.write_text(
            CONF.format(
                host=socket.gethostname().partition(".")[0],
                folder=self.folder,
                ports=[first],
                first=first + 1,
                last=first + NODES,
                nodes=NODES,
                gpus=len(GPUS),
            )
        )
        gpus = "\n".join(f"NodeName=n[1-{NODES}] Name=gpu File={device}" for device in GPUS)
        (self.folder / "gres.conf").write_text(gpus + "\n")
        self._munge()
        self.start_controller()
        for number in range(1, NODES + 1):
            self.start_node(f"n{number}")
        self._wait(lambda: self.states() == {"idle"}, "the nodes did not come up")

    def start_controller(self) -> None:
        self._daemon("slurmctld", self.folder / "slurmctld.pid", "slurmctld")

    def stop_controller(self) -> None:
        """Its state stays on disk."""
        daemon = psutil.Process(int((self.folder / "slurmctld.pid").read_text()))
        daemon.terminate()
        daemon.wait(30)

    def start_node(self, node: str) -> None:
        self._daemon("slurmd", self.folder / f"slurmd-{node}.pid", "slurmd", "-N", node)

    def is_node_up(self, node: str) -> bool:
        file = self.folder / f"slurmd-{node}.pid"
        return file.exists() and psutil.pid_exists(int(file.read_text() or 0))

    def run(self, *argv: str) -> str:
        """What one of Slurm's programs answers."""
        done = subprocess.run(
            argv,
            env=os.environ | self.environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, f"{argv}: {done.stdout}{done.stderr}"
        return done.stdout.strip()

    def states(self) -> set[str]:
        return set(self.run("sinfo", "-h", "-N", "-o", "%T").split())

    def job(self, number: str) -> dict[str, str]:
        """What the controller knows of one Slurm job."""
        words = self.run("scontrol", "--oneliner", "show", "job", number).split()
        return dict(word.partition("=")[::2] for word in words)

    def queue(self, name: str = "") -> list[tuple[str, str]]:
        """(number, state) of the Slurm jobs whose names hold `name`, ended ones included."""
        lines = self.run("squeue", "-h", "--states=all", "-o", "%i|%T|%j").splitlines()
        found = [line.split("|") for line in lines]
        return [(number, state) for number, state, job in found if name in job]

    def node_dies(self, node: str) -> None:
        """Everything on the node is gone at once: daemon, steps, and what they run."""
        daemon = psutil.Process(int((self.folder / f"slurmd-{node}.pid").read_text()))
        there = {process for process in psutil.process_iter() if self._is_on(process, node)}
        keepers: set[psutil.Process] = set()
        for process in there:
            with contextlib.suppress(psutil.NoSuchProcess):  # it has just ended
                keepers |= {one for one in process.parents() if "slurmstepd" in one.name()}
        _kill([daemon, *keepers, *there])

    def _is_on(self, process: psutil.Process, node: str) -> bool:
        try:
            environ = process.environ()
        except psutil.Error:
            return False
        return (
            environ.get("SLURM_CONF") == str(self.conf) and environ.get("SLURMD_NODENAME") == node
        )

    def close(self) -> None:
        if self.conf.exists():
            subprocess.run(
                ["scancel", "--user=root"],
                env=os.environ | self.environment,
                timeout=30,
                check=False,
            )
        end_residents(self.folder)
        shutil.rmtree(self.folder, ignore_errors=True)

    def _munge(self) -> None:
        folder = self.folder
        files = [f"--{what}-file={folder}/munge.{what}" for what in ("key", "log", "pid", "seed")]
        subprocess.run(
            ["munged", "--force", f"--socket={folder}/munge.socket", *files], check=True, timeout=30
        )

    def _daemon(self, name: str, pid_file: Path, *argv: str) -> None:
        pid_file.unlink(missing_ok=True)
        env = {"PATH": os.environ["PATH"], **self.environment}
        subprocess.run(argv, env=env, check=True, timeout=60, stdin=subprocess.DEVNULL)
        self._wait(
            lambda: pid_file.exists() and pid_file.read_text().strip(), f"{name} did not start"
        )

    def _wait(self, condition: object, sentence: str) -> None:
        deadline = time.monotonic() + 60
        while not condition():  # type: ignore[operator]
            assert time.monotonic() < deadline, sentence
            time.sleep(0.05)


def residents(folder: Path) -> list[psutil.Process]:
    """Processes that live in this folder: named by their command line or environment, at work
    there, or with a file of it open. Slurm's step daemons hide the first two, and outlive the
    daemon that started them."""
    own = {os.getpid(), *(process.pid for process in psutil.Process().parents())}
    return [
        process
        for process in psutil.process_iter()
        if process.pid not in own and _is_in(process, str(folder))
    ]


def _is_in(process: psutil.Process, folder: str) -> bool:
    looks = (
        process.cmdline,
        lambda: process.environ().values(),
        lambda: [process.cwd()],
        lambda: [file.path for file in process.open_files()],
    )
    for look in looks:
        try:
            if any(folder in text for text in look()):
                return True
        except (psutil.Error, OSError):
            continue
    return False


def end_residents(folder: Path) -> None:
    """Kill whatever lives in this folder, what is born meanwhile included."""
    deadline = time.monotonic() + 30
    while found := residents(folder):
        assert time.monotonic() < deadline, f"still there: {found}"
        for number in (signal.SIGSTOP, signal.SIGKILL):
            for process in found:
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.send_signal(number)
        time.sleep(0.05)


def _kill(found: list[psutil.Process]) -> None:
    for number in (signal.SIGSTOP, signal.SIGKILL):
        for process in found:
            try:
                process.send_signal(number)
            except psutil.NoSuchProcess:
                continue
    psutil.wait_procs(found, timeout=10)


def free_range(count: int) -> int:
    """The first of so many ports side by side that nobody listens on."""
    for _ in range(200):
        with socket.create_server(("127.0.0.1", 0)) as probe:
            first = probe.getsockname()[1]
        if first + count < 65535 and all(_is_free(first + number) for number in range(count)):
            return first
    raise AssertionError("no free ports")


def _is_free(port: int) -> bool:
    try:
        socket.create_server(("127.0.0.1", port)).close()
    except OSError:
        return False
    return True
