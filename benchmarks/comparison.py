from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .ratios import Ratio, median_of

__all__ = ["Comparison"]

Reports = Mapping[str, Sequence[dict[str, Any]]]


@dataclass(frozen=True)
class Comparison:
    """The reports of two servers, suite by suite, one for each round."""

    name: str
    rival: str
    reports: Reports
    rival_reports: Reports
    ratios: Sequence[Ratio]
    failures: Sequence[str]

    def rows(self) -> Iterator[tuple[Ratio, float, float, float]]:
        """Each ratio that both servers have figures for: the two medians and their quotient."""
        for ratio in self.ratios:
            value = median_of(self.reports.get(ratio.suite, ()), ratio.path)
            rival_value = median_of(self.rival_reports.get(ratio.suite, ()), ratio.path)
            if value is not None and rival_value:
                yield ratio, value, rival_value, value / rival_value

    def cpu_shares(self) -> Iterator[tuple[str, str, dict[str, float]]]:
        """For each measurement and server, the share of each role in all CPU time spent, over all rounds."""
        for suite in self.reports:
            for name, reports in ((self.name, self.reports), (self.rival, self.rival_reports)):
                for measurement, seconds in _cpu_seconds(reports.get(suite, ())).items():
                    total = sum(seconds.values()) or 1.0
                    shares = {role: round(used / total, 3) for role, used in seconds.items()}
                    yield f"{suite}.{measurement}", name, shares

    def table(self) -> str:
        header = f"{'ratio':34} {self.name:>13} {self.rival:>13} {'ratio':>8}  promise"
        lines = [header, "-" * len(header)]
        for ratio, value, rival_value, quotient in self.rows():
            kept = {True: "kept", False: "NOT KEPT", None: ""}[ratio.is_kept(quotient)]
            line = f"{ratio.name:34} {value:13.2f} {rival_value:13.2f} {quotient:8.3f}  {ratio.promise:8} {kept}"
            lines.append(line.rstrip())
        lines += ["", "share of CPU time"]
        for measurement, name, shares in sorted(self.cpu_shares(), key=lambda row: row[0]):
            roles = "  ".join(f"{role} {share:.0%}" for role, share in shares.items() if share >= 0.005)
            lines.append(f"{measurement:34} {name:>13}  {roles}")
        lines += [f"failed: {failure}" for failure in self.failures]
        return "\n".join(lines) + "\n"

    def report(self) -> dict[str, object]:
        return {
            "ratios": {
                ratio.name: {
                    self.name: value,
                    self.rival: rival_value,
                    "ratio": round(quotient, 4),
                    "promise": ratio.promise,
                    "kept": ratio.is_kept(quotient),
                }
                for ratio, value, rival_value, quotient in self.rows()
            },
            "cpu_shares": [
                {"measurement": measurement, "server": name, "shares": shares}
                for measurement, name, shares in self.cpu_shares()
            ],
            "failures": list(self.failures),
            "rounds": {self.name: dict(self.reports), self.rival: dict(self.rival_reports)},
        }


def _cpu_seconds(reports: Sequence[dict[str, Any]]) -> dict[str, dict[str, float]]:
    seconds: dict[str, dict[str, float]] = defaultdict(lambda: defaultdict(float))
    for report in reports:
        for measurement, result in report["results"].items():
            if isinstance(result, dict) and "cpu" in result:
                for role, used in result["cpu"]["seconds"].items():
                    seconds[measurement][role] += used
    return seconds
