"""Whole hosts on one machine: containers, each with a Docker engine and, if wanted, an agent of its own.

A host is a container that can start containers. It can be cut off, frozen, killed and started like a machine,
and its engine can be restarted under a running agent. `runrig dev --hosts 3` and the integration tests are
made of this.

    with Hosts.up(3, agent=lambda host: [*agent_command, "--master", f"{host.gateway}:5055"]) as hosts:
        hosts["h2"].cut()
        hosts["h2"].heal()

The image of a host is empty but for some links (70 kB, made in 0.1 s): its software is this machine's /usr
and this Python with all it imports, bound read-only at the same paths. So the engine that is used must run on
this machine. Hosts run without --privileged: with the capabilities SYS_ADMIN and NET_ADMIN, and seccomp off.

A master outside, on this machine, is reached by the hosts at `gateway`, when it listens there or on 0.0.0.0;
this machine reaches a host at `host.address`; hosts reach each other by name. A command started with `run`
may filter a host's traffic with iptables, for partitions that `cut` does not make.

Everything that is made bears the label RUN_LABEL; `Hosts.close` removes it, `sweep` what dead runs have left.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import ipaddress
import os
import secrets
import shlex
import shutil
import socket
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self, TypeVar

from runrig.errors import InvalidInput, NotFound, TimedOut, Unavailable

T = TypeVar("T")

RUN_LABEL = "io.runrig.hosts.run"
OWNER_LABEL = "io.runrig.hosts.owner"
DIRECTORY_LABEL = "io.runrig.hosts.directory"
TEST_IMAGE = "runrig/busybox:test"
NETWORKS = ipaddress.IPv4Network("10.214.0.0/16")  # each run takes one /24 of it
FIRST_HOST = 11  # .1 is the gateway's; the rest up to here is left to other containers, such as a master's
COUNT_MAX = 64
UP_TIMEOUT_S = 60.0  # a host answers after 1 to 2 s, and much later on a busy machine
CALL_TIMEOUT_S = 60.0
SOCKET_PATH_MAX = 107  # bytes, the kernel's limit
PROGRAMS = ("docker", "dockerd", "containerd", "runc", "iptables", "ip")
SYSTEM_DIRECTORIES = ("bin", "sbin", "lib", "lib32", "lib64", "libx32")  # links into /usr on most machines
ROOT_DIRECTORIES = "usr etc root home host run tmp proc sys dev mnt var var/lib var/log"
ETC = ("passwd", "group", "nsswitch.conf", "ld.so.cache", "protocols", "services", "alternatives")
SEARCH_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

PRIVILEGES = (
    *("--cap-add", "SYS_ADMIN", "--cap-add", "NET_ADMIN"),  # mounts and cgroups; networks
    *("--security-opt", "seccomp=unconfined", "--security-opt", "apparmor=unconfined"),
    *("--security-opt", "systempaths=unconfined"),
    *("--cgroupns", "private", "--device-cgroup-rule", "a *:* rwm"),
)

ADVICE = (
    (
        "unable to apply caps",
        "the engine may not give SYS_ADMIN and NET_ADMIN to a container; run one, as root, that has both",
    ),
    ("Cannot connect to the Docker daemon", "start Docker, or set DOCKER_HOST to an engine on this machine"),
    ("permission denied while trying to connect", "be root or join the group of the engine's socket"),
    ("bind source path does not exist", "the engine must run on this machine, with the same files in sight"),
    (
        "reference does not exist",
        f"make or pull the image first; scripts/engine image makes {TEST_IMAGE}",
    ),
    ("cgroupns", "hosts need Docker 20.10 or newer"),
)

INIT = """\
# Process 1 of a host: makes the cgroups writable, starts engine and agent, reaps what they leave.
trap 'exit 0' TERM
for each in /sys /sys/fs/cgroup /sys/fs/cgroup/*; do
    if mountpoint -q "$each"; then mount -o remount,bind,rw "$each"; fi
done
if [ -e /sys/fs/cgroup/cgroup.controllers ]; then # version 2: a group with processes cannot delegate
    mkdir -p /sys/fs/cgroup/init
    while read -r pid; do echo "$pid" >/sys/fs/cgroup/init/cgroup.procs; done </sys/fs/cgroup/cgroup.procs
    for each in $(cat /sys/fs/cgroup/cgroup.controllers); do
        echo "+$each" >/sys/fs/cgroup/cgroup.subtree_control
    done
fi
mkdir -p /run/runrig
sh /host/start engine
if [ -e /host/agent ]; then sh /host/start agent; fi
sleep infinity &
wait
"""

START = """\
# start NAME: runs /host/NAME in the background unless it runs; its output goes to /host/NAME.log.
file=/run/runrig/$1.pid
if [ -e "$file" ] && kill -0 "$(cat "$file")" 2>/dev/null; then exit 0; fi
if [ "$1" = engine ]; then # a killed engine's files would be believed, even if they name a zombie
    for each in /run/docker.pid /run/docker/containerd/containerd.pid; do
        while [ -e "$each" ] && [ -e "/proc/$(cat "$each")" ]; do sleep 0.05; done
        rm -f "$each"
    done
    rm -f /host/docker.sock
fi
setsid sh "/host/$1" </dev/null >>"/host/$1.log" 2>&1 &
echo $! >"$file"
if [ "$1" = engine ]; then
    until [ -S /host/docker.sock ]; do kill -0 $! || exit 1; sleep 0.05; done
    chmod 666 /host/docker.sock # its directory belongs to the user who asked for the host
fi
"""

STOP = """\
# stop NAME SIGNAL: ends it and waits until it is gone.
pid=$(cat "/run/runrig/$1.pid") || exit 1
kill -s "$2" "$pid" || exit 1
while kill -0 "$pid" 2>/dev/null; do sleep 0.05; done
"""

ENGINE = "exec dockerd --live-restore --host unix:///var/run/docker.sock --host unix:///host/docker.sock\n"


@dataclass(frozen=True, slots=True)
class HostSettings:
    """What the hosts of one run are like."""

    cpus: float | None = None
    """CPUs that a host may use with all its containers; None: all of the machine."""

    memory_mib: int | None = None
    """Memory of a host with all its containers; None: no limit."""

    images: tuple[str, ...] = (TEST_IMAGE,)
    """Images copied from the machine's engine into each host's, so that hosts need no registry."""

    mounts: tuple[Path, ...] = ()
    """More directories of this machine to be seen in the hosts, read-only, at the same paths."""

    environment: Mapping[str, str] = field(default_factory=dict)
    """Variables that the agents get."""

    engine: str = ""
    """Address of the engine that runs the hosts, as in DOCKER_HOST; empty: what the docker command uses."""


class Hosts:
    """The hosts of one run, and the network that joins them."""

    def __init__(self, run: str, directory: Path, gateway: str, subnet: str, settings: HostSettings) -> None:
        self.run = run
        self.directory = directory
        self.network = run
        self.gateway = gateway
        self.subnet = subnet
        self._settings = settings
        self._hosts: dict[str, Host] = {}

    @classmethod
    def up(
        cls,
        count: int,
        *,
        agent: Callable[[Host], Sequence[str]] | None = None,
        settings: HostSettings | None = None,
    ) -> Self:
        """Bring up `count` hosts, named h1, h2, ..., all at once; return when their engines answer.

        `agent` gives the command that is started in each host, and again whenever the host starts.
        Raises Unavailable or TimedOut, having removed what it made.
        """
        settings = settings or HostSettings()
        _require_machine(count)
        run = f"runrig-{secrets.token_hex(3)}"
        directory = Path(tempfile.gettempdir(), run)
        gateway, subnet = _create_network(run, directory, settings.engine)
        hosts = cls(run, directory, gateway, subnet, settings)
        try:
            hosts._make(count, agent)
        except BaseException:
            hosts.close()
            raise
        return hosts

    def close(self) -> None:
        """Remove the hosts, their disks and their network; whatever state they are in."""
        _remove_run(self.run, self.directory, self._settings.engine)

    def __getitem__(self, name: str) -> Host:
        try:
            return self._hosts[name]
        except KeyError:
            raise NotFound("host", name, f"there are {', '.join(self._hosts)}") from None

    def __iter__(self) -> Iterator[Host]:
        return iter(self._hosts.values())

    def __len__(self) -> int:
        return len(self._hosts)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _make(self, count: int, agent: Callable[[Host], Sequence[str]] | None) -> None:
        image = _make_image(self._settings.engine)
        archive = self._save_images()
        software, labels = _software(self._settings.mounts), _labels(self.run, self.directory)
        first = ipaddress.IPv4Address(self.gateway) + FIRST_HOST - 1
        for number in range(count):
            name, address = f"h{number + 1}", str(first + number)
            directory, outer = self.directory / name, self._settings.engine
            self._hosts[name] = Host(name, address, self.gateway, self.network, directory, outer)

        def bring_up(host: Host) -> None:
            _create_host(host, image, self._settings, software, labels)
            host.start()
            if archive is not None:
                host.docker("load", "--input", str(archive))
            if agent is not None:
                host.start_agent(agent(host))

        _in_parallel(bring_up, self)

    def _save_images(self) -> Path | None:
        self.directory.mkdir(mode=0o700)
        if not self._settings.images:
            return None
        archive = self.directory / "images.tar"
        _docker("save", "--output", str(archive), *self._settings.images, engine=self._settings.engine)
        return archive


@dataclass(frozen=True, slots=True)
class Host:
    """One host: a container with an engine in it."""

    name: str
    address: str
    gateway: str
    """Address of this machine as the hosts see it."""
    network: str
    directory: Path
    """Directory of this machine that the host sees as /host: logs, the engine's socket."""
    outer: str
    """Address of the engine that runs the host; empty: what the docker command uses."""

    @property
    def container(self) -> str:
        """Name of the host's container on the machine's engine."""
        return f"{self.network}-{self.name}"

    @property
    def engine(self) -> str:
        """Address of the host's own engine, for programs on this machine; it is reached while cut off too."""
        return f"unix://{self.directory / 'docker.sock'}"

    def cut(self) -> None:
        """Take the host off the network; all goes on running in it."""
        self._outer("network", "disconnect", self.network, self.container)

    def heal(self) -> None:
        """Put the host back on the network, with the address it had."""
        place = ["--ip", self.address, "--alias", self.name]
        self._outer("network", "connect", *place, self.network, self.container)

    def pause(self) -> None:
        """Freeze the host: nothing in it runs, its connections stay open and silent."""
        self._outer("pause", self.container)

    def unpause(self) -> None:
        self._outer("unpause", self.container)

    def kill(self) -> None:
        """End the host as if its power failed: its disk stays, what ran in it is gone."""
        self._outer("kill", self.container)
        wait_for(lambda: not self.is_running(), UP_TIMEOUT_S, f"host {self.name} to end")

    def start(self) -> None:
        """Start the host and its agent, if it has one; return when its engine answers."""
        self._outer("start", self.container)
        self._wait_for_engine()

    def is_running(self) -> bool:
        """Tell whether the host is on; a frozen one is."""
        return self._outer("inspect", "--format", "{{.State.Running}}", self.container) == "true"

    def engine_answers(self) -> bool:
        """Tell whether the host's engine answers a ping within one second."""
        try:
            with socket.socket(socket.AF_UNIX) as link:
                link.settimeout(1.0)
                link.connect(str(self.directory / "docker.sock"))
                link.sendall(b"GET /_ping HTTP/1.0\r\nHost: docker\r\n\r\n")
                return b" 200 " in link.recv(64)
        except OSError:
            return False

    def stop_engine(self, signal: str = "KILL") -> None:
        """End the host's engine; its containers go on running."""
        self.run("sh", "/host/stop", "engine", signal)

    def start_engine(self) -> None:
        """Start the host's engine again; return when it answers."""
        self.run("sh", "/host/start", "engine")
        self._wait_for_engine()

    def restart_engine(self, signal: str = "KILL") -> None:
        self.stop_engine(signal)
        self.start_engine()

    def start_agent(self, command: Sequence[str] | None = None) -> None:
        """Start the agent's command in the host, and again whenever the host starts; None: the one it had."""
        if command is not None:
            (self.directory / "agent").write_text(f"exec {shlex.join(command)}\n")
        self.run("sh", "/host/start", "agent")

    def stop_agent(self, signal: str = "KILL") -> None:
        """End the agent's process, and only that; return when it is gone."""
        self.run("sh", "/host/stop", "agent", signal)

    def run(self, *command: str, timeout_s: float = CALL_TIMEOUT_S) -> str:
        """Run a command in the host; return what it printed. Raises Unavailable when it fails."""
        return self._outer("exec", self.container, *command, timeout_s=timeout_s)

    def docker(self, *words: str, timeout_s: float = CALL_TIMEOUT_S) -> str:
        """Run the docker command on the host's engine; return what it printed, or raise Unavailable."""
        return _docker(*words, engine=self.engine, timeout_s=timeout_s)

    def log(self, name: str) -> str:
        """Return the log of `engine` or `agent`, over all their starts."""
        path = self.directory / f"{name}.log"
        return path.read_text(errors="replace") if path.exists() else ""

    def _outer(self, *words: str, timeout_s: float = CALL_TIMEOUT_S) -> str:
        return _docker(*words, engine=self.outer, timeout_s=timeout_s)

    def _wait_for_engine(self) -> None:
        try:
            wait_for(
                self.engine_answers,
                UP_TIMEOUT_S,
                f"the engine of {self.name}",
                give_up=lambda: not self.is_running(),
            )
        except TimedOut as error:
            said = self._outer("logs", self.container) + self.log("engine")
            raise Unavailable(f"{error}; the end of its log:\n{said[-2000:]}") from error


def sweep(engine: str = "") -> list[str]:
    """Remove what runs have left whose process has ended; return their names."""
    labels = f'{{{{.Label "{RUN_LABEL}"}}}}\t{{{{.Label "{OWNER_LABEL}"}}}}\t{{{{.Label "{DIRECTORY_LABEL}"}}}}'
    found = _docker("network", "ls", "--filter", f"label={RUN_LABEL}", "--format", labels, engine=engine)
    dead = [line.split("\t") for line in found.splitlines() if not _is_alive(line.split("\t")[1])]
    for run, _, directory in dead:
        _remove_run(run, Path(directory), engine)
    return [run for run, _, _ in dead]


# Making and removing


def _require_machine(count: int) -> None:
    if not 1 <= count <= COUNT_MAX:
        raise InvalidInput("hosts", count, f"1 to {COUNT_MAX}")
    if sys.platform != "linux":
        raise Unavailable("hosts need Linux with Docker on the same machine; use plain agents here")
    missing = [name for name in PROGRAMS if not shutil.which(name, path=f"{os.environ.get('PATH', '')}:{SEARCH_PATH}")]
    if missing:
        packages = "Debian's packages are docker.io, iptables and iproute2"
        raise Unavailable(f"hosts need {', '.join(missing)} on this machine, not found; {packages}")


def _labels(run: str, directory: Path) -> list[str]:
    values = {RUN_LABEL: run, OWNER_LABEL: owner_of(os.getpid()), DIRECTORY_LABEL: str(directory)}
    return [word for name, value in values.items() for word in ("--label", f"{name}={value}")]


def _create_network(run: str, directory: Path, engine: str) -> tuple[str, str]:
    """Create the network of a run on a /24 that is free; return its gateway and itself."""
    if len(os.fsencode(directory / "h99/docker.sock")) > SOCKET_PATH_MAX:
        raise InvalidInput("TMPDIR", str(directory.parent), "paths of at most 80 bytes, for sockets below")
    networks = list(NETWORKS.subnets(new_prefix=24))
    first = int(hashlib.sha256(run.encode()).hexdigest(), 16) % len(networks)
    taken = _routed()
    for network in networks[first:] + networks[:first]:
        if any(network.overlaps(each) for each in taken):
            continue
        gateway = str(network.network_address + 1)
        place = ["--subnet", str(network), "--gateway", gateway]
        try:
            _docker("network", "create", *place, *_labels(run, directory), run, engine=engine)
        except Unavailable as error:
            if "overlaps" not in str(error):
                raise
        else:
            return gateway, str(network)
    raise Unavailable(f"no /24 of {NETWORKS} is free; remove networks: docker network prune")


def _routed() -> list[ipaddress.IPv4Network]:
    """List the networks that this machine has routes to, the default route left out."""
    found = []
    for line in Path("/proc/net/route").read_text().splitlines()[1:]:
        words = line.split()
        address, mask = (int.from_bytes(bytes.fromhex(word), "little") for word in (words[1], words[7]))
        if mask:
            found.append(ipaddress.IPv4Network((address, mask.bit_count())))
    return found


def _create_host(host: Host, image: str, settings: HostSettings, software: list[Path], labels: list[str]) -> None:
    """Create the container of a host, not started."""
    host.directory.mkdir(mode=0o700)
    for name, text in {"init": INIT, "start": START, "stop": STOP, "engine": ENGINE}.items():
        (host.directory / name).write_text(text)
    _docker("volume", "create", *labels, host.container, engine=host.outer)
    place, mounts = _network_words(host), _mount_words(host, software)
    words = [*labels, *place, *PRIVILEGES, *_limit_words(settings), *mounts]
    _docker("create", "--name", host.container, *words, image, "sh", "/host/init", engine=host.outer)


def _network_words(host: Host) -> list[str]:
    place = ["--network", host.network, "--network-alias", host.name, "--ip", host.address]
    return ["--hostname", host.name, *place]


def _limit_words(settings: HostSettings) -> list[str]:
    words = [] if settings.cpus is None else ["--cpus", str(settings.cpus)]
    words += [] if settings.memory_mib is None else ["--memory", f"{settings.memory_mib}m"]
    variables = {"PYTHONDONTWRITEBYTECODE": "1", **settings.environment}
    return words + [word for name, value in variables.items() for word in ("--env", f"{name}={value}")]


def _mount_words(host: Host, software: list[Path]) -> list[str]:
    """Mount the host's disk, its directory and the software; a tmpfs ends with the host's power."""
    mounts = [
        f"type=volume,source={host.container},target=/var/lib",  # overlay2 does not work on overlayfs
        f"type=bind,source={host.directory},target=/host",
        *(f"type=bind,source={path},target={path},readonly" for path in software),
    ]
    return ["--tmpfs=/run", "--tmpfs=/tmp:exec", *(f"--mount={each}" for each in mounts)]


def _software(more: Iterable[Path]) -> list[Path]:
    """List the directories of the machine's programs and of this Python's imports, none inside another."""
    # -I: without this process's own directories, of which an agent needs none
    isolated = [sys.executable, "-I", "-c", "import sys; print(*sys.path, sep='\\n')"]
    imports = subprocess.run(isolated, capture_output=True, timeout=CALL_TIMEOUT_S, check=True).stdout.decode()
    named = ["/usr", sys.prefix, sys.base_prefix, *imports.splitlines(), *map(str, more)]
    named += [f"/{name}" for name in SYSTEM_DIRECTORIES if not Path("/", name).is_symlink()]
    both = {path for each in named for path in (Path(each).absolute(), Path(each).resolve())}
    real = {path for path in both if path.is_dir()}
    return sorted(path for path in real if not real.intersection(path.parents))


def _make_image(engine: str) -> str:
    """Import the empty image unless the engine has it; its name tells its content."""
    archive = _root_archive()
    image = f"runrig/host:{hashlib.sha256(archive).hexdigest()[:12]}"
    try:
        _docker("image", "inspect", image, engine=engine)
    except Unavailable:
        _docker("import", "--change", f"ENV PATH={SEARCH_PATH}", "-", image, engine=engine, stdin=archive)
    return image


def _root_archive() -> bytes:
    """Return a tar of directories, links and the small files that programs look for in /etc."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name in ROOT_DIRECTORIES.split():
            _add(archive, name, tarfile.DIRTYPE)
        _add(archive, "var/run", tarfile.SYMTYPE, "../run")  # a pidfile there must not survive a killed host
        for name in SYSTEM_DIRECTORIES:
            if Path("/", name).is_symlink():
                _add(archive, name, tarfile.SYMTYPE, os.readlink(Path("/", name)))
        for name in ETC:
            if Path("/etc", name).exists():
                archive.add(Path("/etc", name), f"etc/{name}", filter=_timeless)
    return buffer.getvalue()


def _add(archive: tarfile.TarFile, name: str, kind: bytes, link: str = "") -> None:
    entry = tarfile.TarInfo(name)
    entry.type, entry.linkname, entry.mode = kind, link, 0o755
    archive.addfile(entry)


def _timeless(entry: tarfile.TarInfo) -> tarfile.TarInfo:
    entry.mtime = 0
    return entry


def _remove_run(run: str, directory: Path, engine: str) -> None:
    """Remove all that bears the label of a run; the network last, since `sweep` finds the run by it."""
    mine = ["--filter", f"label={RUN_LABEL}={run}"]

    def remove(container: str) -> None:
        with contextlib.suppress(Unavailable):
            _docker("unpause", container, engine=engine)
        _docker("rm", "--force", "--volumes", container, engine=engine)

    _in_parallel(remove, _docker("ps", "--all", "--quiet", *mine, engine=engine).split())
    for kind in ("volume", "network"):
        for each in _docker(kind, "ls", "--quiet", *mine, engine=engine).split():
            _docker(kind, "rm", each, engine=engine)
    shutil.rmtree(directory, ignore_errors=True)


# Who made it


def owner_of(pid: int) -> str:
    """Name a process for good: the boot, the pid namespace, the pid and when it started."""
    started = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return f"{boot}/{os.readlink('/proc/self/ns/pid')}/{pid}/{started}"


def _is_alive(owner: str) -> bool:
    """Tell whether the process lives; one of another container counts as alive, since it cannot be seen."""
    boot, space, pid, _ = owner.split("/")
    here = owner_of(os.getpid()).split("/")
    if boot != here[0]:
        return False
    if space != here[1]:
        return True
    return Path("/proc", pid).exists() and owner_of(int(pid)) == owner


# The docker command


def _docker(*words: str, engine: str = "", timeout_s: float = CALL_TIMEOUT_S, stdin: bytes = b"") -> str:
    """Run the docker command; return what it printed. Raises Unavailable with advice, and TimedOut."""
    command = ["docker", *(["--host", engine] if engine else []), *words]
    shown = shlex.join(["docker", *words])[:200]
    try:
        done = subprocess.run(command, input=stdin, capture_output=True, timeout=timeout_s, check=False)
    except FileNotFoundError:
        raise Unavailable("the docker command is missing; install Docker (Debian's package is docker.io)") from None
    except subprocess.TimeoutExpired:
        raise TimedOut(f"{shown}: no answer within {timeout_s:.0f} s; is the engine or the host frozen?") from None
    if done.returncode != 0:
        message = _advised(done.stderr.decode(errors="replace").strip())
        raise Unavailable(f"{shown} failed (exit {done.returncode}): {message}")
    return done.stdout.decode(errors="replace").strip()


def _advised(message: str) -> str:
    return "; ".join([message, *(advice for sign, advice in ADVICE if sign in message)])


def wait_for(
    condition: Callable[[], bool], timeout_s: float, what: str, give_up: Callable[[], bool] = lambda: False
) -> None:
    """Ask until `condition` holds; raise TimedOut after `timeout_s`, or when there is no more hope."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline or give_up():
            raise TimedOut(f"waited for {what} in vain")
        time.sleep(0.05)


def _in_parallel(function: Callable[[T], None], items: Iterable[T]) -> None:
    """Call `function` on every item at once; raise the first error when all have ended."""
    with ThreadPoolExecutor(COUNT_MAX) as pool:
        calls = [pool.submit(function, item) for item in items]
    for call in calls:
        call.result()
