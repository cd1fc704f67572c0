"""A second Docker engine, in a network namespace of its own: one that tests may kill, or that is
blind to paths."""

from __future__ import annotations

import ipaddress
import os
import secrets
import signal
import subprocess
import tarfile
import time
import uuid
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path

import docker

from tests.runners.docker.certificates import make_certificates
from tests.runners.docker.door import Door
from tests.runners.docker.engine import CACHE, need

BUSYBOX = Path("/bin/busybox")
IMAGE = "stroem-test-busybox:1"
PORT = 2376  # in the engine's own network namespace
BRIDGE = "10.213.0.1/24"  # of an engine with an uplink, whose bridge has the usual addresses


class SecondEngine:
    """Starts at once. `hidden` is a directory whose content it cannot see, as if it were on another
    machine. With `uses_tls` it also listens on TCP and demands a client's certificate: `door` leads
    there, and `environment` has what a client needs. With an `uplink`, an engine of this machine,
    it reaches the world like a container of that one."""

    def __init__(
        self,
        directory: Path,
        hidden: Path | None = None,
        *,
        uses_tls: bool = False,
        options: Sequence[str] = (),
        uplink: docker.DockerClient | None = None,
    ) -> None:
        need(os.geteuid() == 0, "a second Docker engine needs root")
        need(BUSYBOX.exists(), "busybox-static is needed for the images of a second Docker engine")
        self._name = f"stroem{uuid.uuid4().hex[:8]}"
        # a socket's path must be short, and overlay needs a real disk
        self._home = CACHE / "engines" / self._name
        self._home.mkdir(parents=True)
        self._directory = directory
        self._hidden = hidden
        self._options = list(options)
        self.door: Door | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self.socket = self._home / "d.sock"
        self.url = f"unix://{self.socket}"
        _run("ip", "netns", "add", self._name)
        _run("nsenter", f"--net=/run/netns/{self._name}", "ip", "link", "set", "lo", "up")
        if uses_tls:
            self._use_tls()
        if uplink is not None:
            self._connect_to(uplink)
        self.start()
        self._import_busybox()

    @property
    def environment(self) -> dict[str, str]:
        """How a client of this engine is told about it."""
        if self.door is None:
            return {"DOCKER_HOST": self.url}
        return {
            "DOCKER_HOST": f"tcp://127.0.0.1:{self.door.port}",
            "DOCKER_TLS_VERIFY": "1",
            "DOCKER_CERT_PATH": str(self.certificates / "client"),
        }

    def _use_tls(self) -> None:
        self.certificates = self._directory / "certificates"
        make_certificates(self.certificates)
        own = self.certificates / "server"
        self._options += [
            *("-H", f"tcp://127.0.0.1:{PORT}", "--tlsverify", f"--tlscacert={own}/ca.pem"),
            *(f"--tlscert={own}/cert.pem", f"--tlskey={own}/key.pem"),
        ]
        self.door = Door(self._name, PORT)

    def _connect_to(self, uplink: docker.DockerClient) -> None:
        """By a cable to its bridge; the addresses of containers come from the other end."""
        bridge = uplink.networks.get("bridge").attrs
        network = ipaddress.ip_network(bridge["IPAM"]["Config"][0]["Subnet"])
        own, gateway = network[-2 - secrets.randbelow(200)], network[1]
        outside = f"v{self._name[6:]}"
        inside = ("ip", "-n", self._name)
        _run(*f"ip link add {outside} type veth peer name uplink netns {self._name}".split())
        name = bridge["Options"]["com.docker.network.bridge.name"]
        _run("ip", "link", "set", outside, "master", name, "up")
        _run(*inside, "addr", "add", f"{own}/{network.prefixlen}", "dev", "uplink")
        _run(*inside, "link", "set", "uplink", "up")
        _run(*inside, "route", "add", "default", "via", str(gateway))
        self._options += ["--bip", BRIDGE]

    def load(self, image: str, source: docker.DockerClient) -> None:
        """Copy an image of another engine."""
        client = docker.DockerClient(base_url=self.url, timeout=300)
        stream = source.api.get_image(image)
        client.api.load_image(stream)
        client.close()

    def start(self) -> None:
        home = self._home
        command = [
            "dockerd", "--data-root", str(home / "data"), "--exec-root", str(home / "run"), "-H", self.url,
            "--pidfile", str(home / "d.pid"), *self._options,
        ]  # fmt: skip
        if self._hidden is not None:
            hide = f"mount -t tmpfs none {self._hidden} && exec " + " ".join(command)
            command = ["unshare", "--mount", "sh", "-c", hide]
        with (self._directory / "dockerd.log").open("ab") as log:
            self._process = subprocess.Popen(
                ["nsenter", f"--net=/run/netns/{self._name}", *command],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        deadline = time.monotonic() + 30
        while not self.answers():
            assert time.monotonic() < deadline, (self._directory / "dockerd.log").read_text()[
                -1500:
            ]
            time.sleep(0.05)

    def answers(self) -> bool:
        try:
            client = self.connect()
            client.ping()
            client.close()
        except (docker.errors.DockerException, OSError):
            return False
        return True

    def connect(self) -> docker.DockerClient:
        return docker.DockerClient(base_url=self.url, timeout=30)

    def kill(self, number: int = signal.SIGKILL) -> None:
        assert self._process is not None
        self._process.send_signal(number)
        self._process.wait(30)
        # containerd dies with it, but may stay a zombie: to the next dockerd it would seem to run.
        note = self._home / "run" / "containerd" / "containerd.pid"
        if note.exists():
            _wait_for_end(int(note.read_text()))
            note.unlink(missing_ok=True)

    def close(self) -> None:
        if not self.answers():
            if self._process is not None and self._process.poll() is None:
                self.kill()
            self.start()
        client = self.connect()
        for container in client.containers.list(all=True):
            container.remove(force=True, v=True)
        client.close()
        if self.door is not None:
            self.door.close()
        self.kill(signal.SIGTERM)
        for mounted in ("run/netns/default", "data"):
            subprocess.run(["umount", str(self._home / mounted)], check=False, capture_output=True)
        _run("ip", "netns", "del", self._name)
        subprocess.run(["rm", "-rf", str(self._home)], check=False)

    def _import_busybox(self) -> None:
        archive = BytesIO()
        with tarfile.open(fileobj=archive, mode="w") as tar:
            tar.add(BUSYBOX, "bin/busybox")
            for name in (
                "sh",
                "echo",
                "cat",
                "sleep",
                "mktemp",
                "rm",
                "ls",
                "touch",
                "seq",
                "id",
                "tr",
                "head",
                "df",
                "wc",
                "tail",
            ):
                link = tarfile.TarInfo(f"bin/{name}")
                link.type, link.linkname = tarfile.SYMTYPE, "busybox"
                tar.addfile(link)
            for name in ("tmp", "root"):
                folder = tarfile.TarInfo(name)
                folder.type, folder.mode = tarfile.DIRTYPE, 0o1777
                tar.addfile(folder)
        client = self.connect()
        client.api.import_image_from_data(
            archive.getvalue(), repository=IMAGE.split(":")[0], tag="1", changes=["ENV PATH=/bin"]
        )
        client.close()


def _wait_for_end(pid: int) -> None:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            return
        if state == "Z":
            return
        time.sleep(0.02)


def _run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True)
