"""Networks of containers without an engine: bridges in a network namespace, which this machine does not see."""

from __future__ import annotations

import subprocess
from collections.abc import Iterable

__all__ = ["Networks"]


class Networks:
    """
    Bridges, and a network namespace for each container, kept by a process that sleeps.

    Addresses are ``10.200.<network>.<container>``; every container has one in each network that it is in.

    """

    def __init__(self, names: Iterable[str]) -> None:
        self._numbers = {name: number for number, name in enumerate(names, 1)}
        self._sleepers: list[subprocess.Popen[bytes]] = []
        self._switch = self._new()
        self.hosts: dict[str, dict[str, list[str]]] = {name: {} for name in self._numbers}  # network → name → addresses
        for name in self._numbers:
            self._ip(f"link add {name} type bridge", f"link set {name} up")

    def join(self, networks: dict[str, list[str]]) -> int:
        """Make a namespace in these networks, known there by the names given; returns who keeps it."""
        pid = self._new()
        number = len(self._sleepers)
        for network, names in networks.items():
            there, here = f"v{number}{network}", network
            address = f"10.200.{self._numbers[network]}.{number}"
            self._ip(
                f"link add {there} type veth peer name {here} netns {pid}",
                f"link set {there} master {network} up",
            )
            self._ip(f"addr add {address}/24 dev {here}", f"link set {here} up", "link set lo up", pid=pid)
            for name in names:
                self.hosts[network].setdefault(name, []).append(address)
        return pid

    def hosts_file(self, networks: Iterable[str]) -> str:
        """Return what /etc/hosts says where these networks are known."""
        lines = ["127.0.0.1 localhost", "::1 localhost"]
        for network in networks:
            lines += [f"{address} {name}" for name, found in self.hosts[network].items() for address in found]
        return "\n".join(lines) + "\n"

    def close(self) -> None:
        for sleeper in self._sleepers:
            sleeper.kill()
            sleeper.wait()

    def _new(self) -> int:
        """Start a process in a network of its own, and wait until it is there."""
        sleeper = subprocess.Popen(
            ["unshare", "--net", "sh", "-c", "echo; exec sleep infinity"], stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
        )  # fmt: skip
        self._sleepers.append(sleeper)
        assert sleeper.stdout is not None
        with sleeper.stdout:
            sleeper.stdout.readline()
        return sleeper.pid

    def _ip(self, *commands: str, pid: int | None = None) -> None:
        enter = ["nsenter", f"--target={pid or self._switch}", "--net", "ip", "-batch", "-"]
        subprocess.run(enter, input="\n".join(commands), text=True, check=True)
