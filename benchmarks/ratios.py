from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

__all__ = ["RATIOS", "TWO_GATEWAY_RATIOS", "Ratio", "median_of"]


@dataclass(frozen=True)
class Ratio:
    """
    A figure of one server divided by the same figure of another.

    ``at_least`` or ``at_most`` is the promise; without either the ratio is there to explain the others.

    """

    name: str
    suite: str
    path: tuple[str, ...]
    at_least: float | None = None
    at_most: float | None = None

    @property
    def promise(self) -> str:
        if self.at_least is not None:
            return f">= {self.at_least}"
        return f"<= {self.at_most}" if self.at_most is not None else ""

    def is_kept(self, value: float) -> bool | None:
        if self.at_least is not None:
            return value >= self.at_least
        return value <= self.at_most if self.at_most is not None else None


def median_of(reports: Sequence[dict[str, Any]], path: Sequence[str]) -> float | None:
    """The median over rounds of the value at a path in the results of a suite, where the suite has it."""
    values: list[float] = []
    for report in reports:
        value: Any = report["results"]
        for key in path:
            value = value.get(key, {})
        if value != {}:
            values.append(float(value))
    return statistics.median(values) if values else None


RATIOS = (
    Ratio("http_calls_per_s", "http_calls", ("get", "calls_per_s"), at_least=8),
    Ratio("http_post_calls_per_s", "http_calls", ("post", "calls_per_s"), at_least=8),
    Ratio("http_calls_per_s_light_provider", "http_calls", ("light_provider_get", "calls_per_s")),
    Ratio("cpu_per_http_call", "http_calls", ("get", "server_cpu_us_per_call")),
    Ratio("ws_handshakes_per_s", "idle", ("handshakes", "handshakes_per_s"), at_least=3),
    Ratio("cpu_per_ws_handshake", "idle", ("handshakes", "server_cpu_us_per_handshake")),
    Ratio("rpc_connects_per_s", "rpc", ("connects", "connects_per_s"), at_least=2.5),
    Ratio("wire_connects_per_s", "wire", ("connects", "connects_per_s"), at_least=2.5),
    Ratio("registrations_per_s", "rpc", ("registrations", "registrations_per_s"), at_least=3),
    Ratio("wire_registrations_per_s", "wire", ("registrations", "registrations_per_s"), at_least=3),
    Ratio("get_service_p50", "rpc", ("get_service", "p50_ms"), at_most=0.7),
    Ratio("wire_get_service_p50", "wire", ("get_service", "p50_ms"), at_most=0.7),
    Ratio("list_services_100_p50", "rpc", ("list_services_100", "p50_ms"), at_most=0.35),
    Ratio("wire_list_services_100_p50", "wire", ("list_services_100", "p50_ms"), at_most=0.35),
    Ratio("rpc_call_p50", "rpc", ("call", "p50_ms"), at_most=1.0),
    Ratio("rpc_call_p99", "rpc", ("call", "p99_ms")),
    Ratio("rpc_calls_per_s", "rpc", ("calls_concurrent", "calls_per_s")),
    Ratio("wire_call_p50", "wire", ("calls", "p50_ms")),
    Ratio("array_10MB_send", "rpc", ("array_10MB", "send_MB_per_s")),
    Ratio("array_10MB_receive", "rpc", ("array_10MB", "receive_MB_per_s")),
    Ratio("raw_200B_sequential", "frames", ("200B_sequential", "frames_per_s")),
    Ratio("raw_200B_inflight64", "frames", ("200B_inflight64", "frames_per_s"), at_least=1.8),
    Ratio("raw_200B_pairs8", "frames", ("200B_pairs8", "frames_per_s")),
    Ratio("raw_1MB_sequential", "frames", ("1MB_sequential", "frames_per_s")),
    Ratio("raw_1MB", "frames", ("1MB_inflight64", "frames_per_s"), at_least=1.0),
    Ratio("raw_1MB_pairs8", "frames", ("1MB_pairs8", "frames_per_s")),
    Ratio("cpu_per_200B_frame", "frames", ("200B_inflight64", "server_cpu_us_per_frame"), at_most=0.5),
    Ratio("cpu_per_1MB_frame", "frames", ("1MB_inflight64", "server_cpu_us_per_frame"), at_most=0.8),
    Ratio("artifact_create_p50", "artifacts", ("create", "p50_ms")),
    Ratio("artifact_read_p50", "artifacts", ("read", "p50_ms")),
    Ratio("artifact_put_file_p50", "artifacts", ("put_file", "p50_ms")),
    Ratio("artifact_put_file_per_s", "artifacts", ("put_file", "calls_per_s"), at_least=20),
    Ratio("artifact_get_file_p50", "artifacts", ("get_file", "p50_ms")),
    Ratio("artifact_get_file_per_s", "artifacts", ("get_file", "calls_per_s"), at_least=20),
    Ratio("artifact_list_files_per_s", "artifacts", ("list_files", "calls_per_s"), at_least=20),
    Ratio("artifact_write_file_per_s", "artifacts", ("write_file", "calls_per_s"), at_least=20),
    Ratio("artifact_read_file_per_s", "artifacts", ("read_file", "calls_per_s"), at_least=20),
    Ratio("artifact_small_put_per_s", "artifacts", ("put_file_and_PUT", "calls_per_s")),
    Ratio("artifact_small_get_per_s", "artifacts", ("get_file_and_GET", "calls_per_s")),
    Ratio("artifact_commit_p50", "artifacts", ("commit_10_files", "p50_ms")),
    Ratio("artifact_put_MiB_per_s", "artifacts", ("bulk", "put", "MiB_per_s")),
    Ratio("artifact_get_MiB_per_s", "artifacts", ("bulk", "get", "MiB_per_s")),
)

# The same server with itself: receivers on the second gateway, then on the first.
TWO_GATEWAY_RATIOS = (
    Ratio("two_gateway_ratio_200B", "frames", ("200B_inflight64", "frames_per_s"), at_least=0.5),
    Ratio("two_gateway_ratio_1MB", "frames", ("1MB_inflight64", "frames_per_s"), at_least=0.5),
    Ratio("two_gateway_ratio_200B_pairs8", "frames", ("200B_pairs8", "frames_per_s")),
    Ratio("two_gateway_ratio_1MB_pairs8", "frames", ("1MB_pairs8", "frames_per_s")),
    Ratio("two_gateway_cpu_200B", "frames", ("200B_inflight64", "server_cpu_us_per_frame")),
    Ratio("two_gateway_cpu_1MB", "frames", ("1MB_inflight64", "server_cpu_us_per_frame")),
)
