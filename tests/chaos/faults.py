from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Literal, TypeAlias

import psutil

from hypha.server.probe import is_ready
from tests.chaos.arena import Arena
from tests.chaos.floods import full_queues, stalled_reader
from tests.chaos.nats_faults import frozen_node, lost_node, nodes_in_turn
from tests.fixtures import faulty_store
from tests.fixtures.link import Link

__all__ = ["FAULTS", "Fault", "Inject", "Needs"]

Needs: TypeAlias = Literal["", "browser", "three_nats", "wire"]
Inject = Callable[[Arena], AbstractAsyncContextManager[None]]

_ROLES = ("gateway", "workspace", "auth", "artifacts", "apps")
_UNTIL_S = 20.0


@dataclass(frozen=True)
class Fault:
    """
    One way to hurt a running system.

    ``inject`` hurts on entry and ends the fault on exit, ``hold_s`` later. ``restarted`` are the roles of which a
    process may be started again; where the fault is ``lossless``, frames of bystanders must not get lost.
    A fault that ``forgets`` empties the registry: for a while listings lack what is there. It ``needs`` a system with
    more than every system has.

    """

    name: str
    what: str
    inject: Inject
    hold_s: float = 0.0
    restarted: frozenset[str] = frozenset()
    lossless: bool = False
    forgets: bool = False
    needs: Needs = ""


def _killed(role: str, number: signal.Signals = signal.SIGKILL, *, index: int = -1) -> Inject:
    @asynccontextmanager
    async def inject(arena: Arena) -> AsyncIterator[None]:
        pid = arena.pids[role][index]
        os.kill(pid, number)
        yield
        async with asyncio.timeout(_UNTIL_S):
            while pid in arena.pids.get(role, [pid]) or len(arena.pids[role]) < len(arena.before[role]):
                await asyncio.sleep(0.02)

    return inject


def _frozen(role: str, *, index: int = -1) -> Inject:
    @asynccontextmanager
    async def inject(arena: Arena) -> AsyncIterator[None]:
        processes = arena.family(role, index)
        for process in processes:
            process.suspend()
        try:
            yield
        finally:
            for process in reversed(processes):
                with suppress(psutil.NoSuchProcess):
                    process.resume()

    return inject


def _cut_off(address: str) -> Inject:
    @asynccontextmanager
    async def inject(arena: Arena) -> AsyncIterator[None]:
        assert arena.away is not None, "all of the hub is in one place"
        with arena.away.link.cut(address):
            yield

    return inject


def _store_does(fault: faulty_store.Fault) -> Inject:
    @asynccontextmanager
    async def inject(arena: Arena) -> AsyncIterator[None]:
        arena.store.decide = lambda _method, _target: fault
        try:
            yield
        finally:
            arena.store.heal()

    return inject


@asynccontextmanager
async def _store_gone(arena: Arena) -> AsyncIterator[None]:
    await asyncio.to_thread(arena.objects.kill)
    try:
        yield
    finally:
        await asyncio.to_thread(arena.objects.start)


@asynccontextmanager
async def _all_in_turn(arena: Arena) -> AsyncIterator[None]:
    """End every process of ours, one at a time, as an upgrade does; the next when the one before is back."""
    for role in _ROLES:
        for index, pid in enumerate(arena.pids[role]):
            gateway = arena.cluster.gateway_urls[index] if role == "gateway" else ""
            if gateway:
                arena.front.leave(gateway)  # balancers are told first
            os.kill(pid, signal.SIGTERM)
            async with asyncio.timeout(3 * _UNTIL_S):
                await _replaced(arena, role, pid)
            if gateway:
                arena.front.use(gateway)
    yield


async def _replaced(arena: Arena, role: str, pid: int) -> None:
    """Wait until as many processes of a role as before are ready, without that one."""
    while True:
        pids = arena.pids.get(role, [])
        if pid not in pids and len(pids) == len(arena.before[role]):
            variable = "HYPHA_PORT" if role == "gateway" else "HYPHA_METRICS_PORT"
            with suppress(psutil.NoSuchProcess, KeyError):  # one that ended, or that is not yet what it will be
                ports = [psutil.Process(one).environ()[variable] for one in pids]
                if all([await is_ready(f"http://127.0.0.1:{port}") for port in ports]):
                    return
        await asyncio.sleep(0.05)


def _faults() -> list[Fault]:
    made = []
    for role in _ROLES:
        lossless = role != "gateway"
        made.append(
            Fault(
                f"kill-{role}", f"SIGKILL of one of two {role} processes", _killed(role),
                restarted=frozenset({role}), lossless=lossless,
            )
        )  # fmt: skip
        made.append(
            Fault(
                f"freeze-{role}", f"SIGSTOP of one of two {role} processes for 8 s", _frozen(role),
                hold_s=8.0, lossless=lossless,
            )
        )  # fmt: skip
    made += [
        # The registry has swept its clients when it wakes; they register anew one after another.
        Fault("freeze-gateway-20", "SIGSTOP of a gateway for 20 s, longer than its lease", _frozen("gateway"), 20.0,
              forgets=True),
        Fault("kill-nats", "SIGKILL of the only NATS server", _killed("nats"), restarted=frozenset({"nats"})),
        Fault("freeze-nats", "SIGSTOP of the only NATS server for 20 s, longer than leases", _frozen("nats"), 20.0,
              forgets=True),
        Fault(
            "restart-postgres", "PostgreSQL restarted (fast)", _killed("postgres", signal.SIGINT),
            restarted=frozenset({"postgres"}),
        ),
        Fault(
            "crash-postgres", "PostgreSQL ended at once (immediate); its unlogged tables are empty",
            _killed("postgres", signal.SIGQUIT), restarted=frozenset({"postgres"}), forgets=True,
        ),
        Fault("freeze-postgres", "SIGSTOP of PostgreSQL for 8 s", _frozen("postgres"), hold_s=8.0, lossless=True),
        Fault(
            "s3-errors", "S3 answers everything with 500 for 5 s", _store_does(faulty_store.status(500)),
            hold_s=5.0, lossless=True,
        ),
        Fault(
            "s3-full", "S3 answers 507 (no space left) for 5 s", _store_does(faulty_store.status(507)),
            hold_s=5.0, lossless=True,
        ),
        Fault("s3-slow", "S3 takes 2 s longer for each request, for 6 s", _store_does(faulty_store.slow(2)), 6.0,
              lossless=True),
        Fault("s3-hangs", "S3 does not answer for 5 s", _store_does(faulty_store.HANG), hold_s=5.0, lossless=True),
        Fault("s3-loses", "S3 does everything and answers nothing for 5 s", _store_does(faulty_store.LOSE), 5.0,
              lossless=True),
        Fault("s3-gone", "S3 killed, back after 4 s", _store_gone, hold_s=4.0, lossless=True),
        Fault("stalled-reader", "8 clients send 1 MB frames to one that reads nothing, for 8 s", stalled_reader, 8.0,
              lossless=True),
        Fault("full-queues", "32 clients send each other more 1 MB frames than they read, for 8 s", full_queues, 8.0,
              lossless=True),
        Fault("kill-worker", "SIGKILL of the worker that runs an app", _killed("worker"),
              restarted=frozenset({"worker"}), lossless=True),
        Fault("freeze-worker", "SIGSTOP of that worker for 8 s", _frozen("worker"), hold_s=8.0, lossless=True),
        Fault("kill-browser-worker", "SIGKILL of the browser worker", _killed("browser_worker"),
              restarted=frozenset({"browser_worker"}), lossless=True, needs="browser"),
        Fault("freeze-browser-worker", "SIGSTOP of the browser worker and its browser for 8 s",
              _frozen("browser_worker"), hold_s=8.0, lossless=True, needs="browser"),
        Fault("lose-nats-node", "SIGKILL of one of three NATS servers, back after 5 s", lost_node, 5.0,
              needs="three_nats"),
        Fault("nats-nodes-in-turn", "SIGKILL of two of three NATS servers, one when the other is back", nodes_in_turn,
              needs="three_nats"),
        Fault("freeze-nats-node", "SIGSTOP of one of three NATS servers for 20 s", frozen_node, 20.0, forgets=True,
              needs="three_nats"),
        Fault("cut-nats", "a gateway and a workspace replica cut off from NATS for 8 s: packets vanish",
              _cut_off(Link.BUS), 8.0, forgets=True, needs="wire"),
        Fault("cut-nats-20", "the same for 20 s, longer than leases", _cut_off(Link.BUS), 20.0, forgets=True,
              needs="wire"),
        Fault("cut-postgres", "a workspace replica cut off from PostgreSQL for 8 s: packets vanish",
              _cut_off(Link.DATABASE), 8.0, lossless=True, needs="wire"),
        Fault("cut-postgres-20", "the same for 20 s", _cut_off(Link.DATABASE), 20.0, lossless=True, needs="wire"),
        Fault("rolling-restart", "SIGTERM of every process of ours, one after another", _all_in_turn,
              restarted=frozenset(_ROLES)),
    ]  # fmt: skip
    return made


FAULTS: dict[str, Fault] = {fault.name: fault for fault in _faults()}
