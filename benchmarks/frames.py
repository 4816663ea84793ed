from __future__ import annotations

import argparse
import asyncio
import secrets
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import msgpack

from .command import add_server_arguments, emit, run
from .cpu import CpuWindow
from .flow import Flow, check_routed
from .peer import Peer
from .processes import ProcessTree
from .raw_connection import RawConnection
from .stats import latency_ms
from .wamp_peer import WampPeer

__all__ = ["CASES", "Case", "measure_case"]

Pair = tuple[RawConnection, RawConnection, bytes]
OpenPair = Callable[[str, str, int, int], Awaitable[Pair]]


@dataclass(frozen=True)
class Case:
    name: str
    payload_bytes: int
    pairs: int
    in_flight: int


CASES = {
    case.name: case
    for case in (
        Case("200B_sequential", 200, pairs=1, in_flight=1),
        Case("200B_inflight64", 200, pairs=1, in_flight=64),
        Case("200B_pairs8", 200, pairs=8, in_flight=8),
        Case("1MB_sequential", 1_000_000, pairs=1, in_flight=1),
        Case("1MB_inflight64", 1_000_000, pairs=1, in_flight=64),
        Case("1MB_pairs8", 1_000_000, pairs=8, in_flight=8),
    )
}


async def measure_case(
    case: Case,
    url: str,
    peer_url: str,
    *,
    open_pair: OpenPair,
    seconds: float,
    warmup_s: float,
    server: ProcessTree | None,
) -> dict[str, object]:
    read_buffer = 2 * 2**20 if case.payload_bytes > 64 * 1024 else 64 * 1024
    peers: list[RawConnection] = []
    flows: list[Flow] = []
    try:
        for _ in range(case.pairs):
            sender, receiver, message = await open_pair(url, peer_url, case.payload_bytes, read_buffer)
            peers += [sender, receiver]
            flows.append(Flow(sender, receiver, message, in_flight=case.in_flight, min_bytes=case.payload_bytes))
        for flow in flows:
            flow.start()
        await _sleep_while_connected(warmup_s, peers)
        for flow in flows:
            flow.latencies_s.clear()
        before = sum(flow.received for flow in flows)
        with CpuWindow(server) as window:
            await _sleep_while_connected(seconds, peers)
            frames = sum(flow.received for flow in flows) - before
        await asyncio.gather(*(flow.stop(timeout_s=30) for flow in flows))
    finally:
        await asyncio.gather(*(peer.close() for peer in peers))
    return _report(case, frames, window, [sample for flow in flows for sample in flow.latencies_s])


async def open_hub_pair(url: str, peer_url: str, payload_bytes: int, read_buffer: int) -> Pair:
    sender = await Peer.connect(url, read_buffer=read_buffer)
    receiver = await Peer.connect(peer_url, read_buffer=read_buffer)
    payload = secrets.token_bytes(payload_bytes)
    header = {"type": "method", "from": sender.client_id, "to": receiver.address, "method": "bench.frame"}

    def check(raw: bytes) -> None:
        check_routed(raw, sender=sender.address, receiver=receiver.address, payload=payload)

    receiver.on_first = check
    return sender, receiver, msgpack.packb(header) + msgpack.packb({"args": [payload]})


async def open_wamp_pair(url: str, peer_url: str, payload_bytes: int, read_buffer: int) -> Pair:
    sender = await WampPeer.connect(url, read_buffer=read_buffer)
    receiver = await WampPeer.connect(peer_url, read_buffer=read_buffer)
    topic = f"bench.{secrets.token_hex(6)}"
    await receiver.subscribe(topic)
    return sender, receiver, sender.publication(topic, secrets.token_bytes(payload_bytes))


PROTOCOLS: dict[str, OpenPair] = {"hypha": open_hub_pair, "wamp": open_wamp_pair}


async def _sleep_while_connected(seconds: float, peers: list[RawConnection]) -> None:
    lost, _ = await asyncio.wait([peer.lost for peer in peers], timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
    if lost:
        raise ConnectionError("the server closed a connection under load")


def _report(case: Case, frames: int, window: CpuWindow, latencies_s: list[float]) -> dict[str, object]:
    if not frames:
        raise RuntimeError(f"{case.name}: no frame arrived")
    report: dict[str, object] = {
        "payload_bytes": case.payload_bytes,
        "pairs": case.pairs,
        "in_flight": case.in_flight,
        "frames": frames,
        "seconds": round(window.elapsed_s, 3),
        "frames_per_s": round(frames / window.elapsed_s, 1),
        "MB_per_s": round(frames * case.payload_bytes / window.elapsed_s / 1e6, 2),
        "cpu": window.report(),
        "server_cpu_us_per_frame": round(window.server_s / frames * 1e6, 2),
        "generator_cpu_us_per_frame": round(window.seconds["generator"] / frames * 1e6, 2),
    }
    if latencies_s and case.in_flight == 1:
        report["latency"] = latency_ms(latencies_s)
    return report


async def main(arguments: argparse.Namespace) -> None:
    server = ProcessTree(arguments.pid) if arguments.pid else None
    peer_url = arguments.peer_url or arguments.url
    results: dict[str, object] = {}
    for name in arguments.case or CASES:
        results[name] = await measure_case(
            CASES[name],
            arguments.url,
            peer_url,
            open_pair=PROTOCOLS[arguments.protocol],
            seconds=arguments.seconds,
            warmup_s=arguments.warmup,
            server=server,
        )
    emit("frames", results, url=arguments.url, peer_url=peer_url)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Raw frames routed between pairs of websocket connections.")
    add_server_arguments(parser)
    parser.add_argument("--peer-url", help="gateway of the receivers (default: the same one)")
    parser.add_argument("--protocol", choices=list(PROTOCOLS), default="hypha")
    parser.add_argument("--case", action="append", choices=list(CASES), help="repeatable; default: every case")
    parser.add_argument("--seconds", type=float, default=3.0, help="measured time of each case")
    parser.add_argument("--warmup", type=float, default=0.5)
    run(main(parser.parse_args()))
