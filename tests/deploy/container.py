"""
Containers without an engine: a process with a root directory, mounts, a user and, where asked for, its own network.

The root is this machine's, with layers above it (overlayfs): programs of images have to be here, too. Needs root.
"""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

__all__ = ["Container", "Mount", "Spec", "new_folder", "run_in", "why_not"]

_MEMORY = Path("/dev/shm")
_NEEDED_BYTES = 2 * 2**30
_ENVIRONMENT = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}


def why_not() -> str:
    """Return why there can be no containers here; nothing: there can."""
    if os.geteuid():
        return "namespaces and mounts need root"
    if missing := [name for name in ("ip", "nsenter", "setpriv", "unshare", "wget") if shutil.which(name) is None]:
        return f"{', '.join(missing)} of iproute2, util-linux and wget are needed"
    script = (
        "mount -t tmpfs t /mnt && cd /mnt && mkdir a b c && mount -t overlay o -o lowerdir=/,upperdir=a,workdir=b c"
    )
    done = subprocess.run(["unshare", "-m", "-n", "sh", "-c", script], capture_output=True, text=True, check=False)
    return "" if done.returncode == 0 else f"no namespaces or no overlayfs: {done.stderr.strip()}"


def new_folder() -> Path:
    """Return a folder for layers: not on the file system of the root, because layers may not lie in one another."""
    return Path(tempfile.mkdtemp(prefix="hypha-test-", dir=_MEMORY))


@dataclass(frozen=True)
class Mount:
    """``source``, a path of this machine, or ``tmpfs``, seen at ``target``."""

    source: str
    target: str
    read_only: bool = True

    def script(self, root: Path) -> str:
        place = shlex.quote(f"{root}{self.target}")
        if self.source == "tmpfs":
            return f"mkdir -p {place}; mount -t tmpfs -o mode=1777 tmpfs {place}\n"
        source = shlex.quote(self.source)
        made = f"mkdir -p {place}" if Path(self.source).is_dir() else f"mkdir -p $(dirname {place}); touch {place}"
        bound = f"{made}; mount --bind {source} {place}\n"
        return bound + (f"mount -o remount,bind,ro {place}\n" if self.read_only else "")


@dataclass(frozen=True, kw_only=True)
class Spec:
    """
    What a container is made of.

    ``layers``, the lowest first, lie above this machine's root; ``folder`` takes what is written. ``network`` is the id
    of a process in whose network it runs; none: this machine's. Users other than root have no capabilities.

    """

    folder: Path
    layers: Sequence[Path] = ()
    mounts: Sequence[Mount] = ()
    prepare: str = ""  # shell, before it starts; $root is its root
    read_only: bool = False
    user: str = "0:0"
    workdir: str = "/"
    environ: Mapping[str, str] = field(default_factory=dict)
    network: int | None = None

    @property
    def written(self) -> Path:
        return self.folder / "upper"

    def command(self, words: Sequence[str]) -> list[str]:
        """Return a command that runs ``words`` in it, as the process that it is itself."""
        root = self.folder / "root"
        for folder in (root, self.written, self.folder / "work"):
            folder.mkdir(parents=True, exist_ok=True)
        lower = ":".join([*map(str, reversed(self.layers)), "/"])
        script = f"set -eu\nroot={shlex.quote(str(root))}\n"
        script += (
            f"mount -t overlay overlay -o lowerdir={lower},upperdir={self.written},workdir={self.folder}/work $root\n"
        )
        script += "for name in dev proc; do mount --rbind /$name $root/$name; done\n"
        script += "".join(mount.script(root) for mount in self.mounts) + f"{self.prepare}\n"
        script += "mount -o remount,ro $root\n" if self.read_only else ""
        script += f"exec chroot $root {shlex.join(self.inside(words))}\n"
        entered = [] if self.network is None else ["nsenter", f"--target={self.network}", "--net"]
        return [*entered, "unshare", "--mount", "sh", "-c", script]

    def inside(self, words: Sequence[str]) -> list[str]:
        """Return what runs ``words`` once this is the root: as its user, with its environment and nothing else."""
        user, _, group = self.user.partition(":")
        rights = ["setpriv", f"--reuid={user}", f"--regid={group or user}", "--clear-groups"]
        if user != "0":
            rights += ["--bounding-set=-all", "--inh-caps=-all", "--no-new-privs"]
        environ = {**_ENVIRONMENT, **self.environ}
        return [*rights, "env", "-i", f"--chdir={self.workdir}", *(f"{k}={v}" for k, v in environ.items()), *words]


def run_in(spec: Spec, words: Sequence[str], *, timeout_s: float = 300) -> str:
    """Run a command to its end and return what it printed. Raises AssertionError where it fails."""
    done = subprocess.run(
        spec.command(words), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        timeout=timeout_s, check=False,
    )  # fmt: skip
    assert done.returncode == 0, f"{shlex.join(words)}: {done.stdout[-4000:]}"
    return done.stdout


class Container:
    """A running one."""

    def __init__(self, spec: Spec, words: Sequence[str]) -> None:
        self.spec = spec
        spec.folder.mkdir(parents=True, exist_ok=True)
        self._log = spec.folder / "log"
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(
                spec.command(words), stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )

    @property
    def log(self) -> str:
        return self._log.read_text("utf-8", "replace")

    def execute(self, words: Sequence[str], *, timeout_s: float = 10) -> tuple[int, str]:
        """Run a command beside its process, as the same user; returns status and output."""
        entered = ["nsenter", f"--target={self.process.pid}", "--mount", "--net", "--root"]
        done = subprocess.run(
            [*entered, *self.spec.inside(words)], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, text=True, timeout=timeout_s, check=False,
        )  # fmt: skip
        return done.returncode, done.stdout

    def stop(self, *, number: int = signal.SIGTERM, timeout_s: float = 30) -> int:
        """Send a signal and return the exit status. Raises subprocess.TimeoutExpired, and kills, where it goes on."""
        with suppress(ProcessLookupError):
            self.process.send_signal(number)
        try:
            return self.process.wait(timeout_s)
        finally:
            self.kill()

    def kill(self) -> None:
        """Kill it, and what it may have started."""
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
