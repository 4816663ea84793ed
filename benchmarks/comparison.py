from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .ratios import RATIOS, Ratio, median_of

__all__ = ["Comparison"]

Reports = Mapping[str, Sequence[dict[str, Any]]]


@dataclass(frozen=True)
class Comparison:
    """The reports of two servers, suite by suite, one for each round."""

    name: str
    rival: str
    reports: Reports
    rival_reports: Reports
    failures: Sequence[str]
    ratios: Sequence[Ratio] = RATIOS

    def rows(self) -> Iterator[tuple[Ratio, float, float, float]]:
        """Each ratio that both servers have figures for: the two medians and their quotient."""
        for ratio in self.ratios:
            value = median_of(self.reports.get(ratio.suite, ()), ratio.path)
            rival_value = median_of(self.rival_reports.get(ratio.suite, ()), ratio.path)
            if value is not None and rival_value:
                yield ratio, value, rival_value, value / rival_value

    def table(self) -> str:
        header = f"{'ratio':34} {self.name:>13} {self.rival:>13} {'ratio':>8}  promise"
        lines = [header, "-" * len(header)]
        for ratio, value, rival_value, quotient in self.rows():
            kept = {True: "kept", False: "NOT KEPT", None: ""}[ratio.is_kept(quotient)]
            lines.append(f"{ratio.name:34} {value:13.2f} {rival_value:13.2f} {quotient:8.3f}  {ratio.promise:8} {kept}")
        lines += [f"failed: {failure.splitlines()[0]}" for failure in self.failures]
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
            "failures": list(self.failures),
            self.name: dict(self.reports),
            self.rival: dict(self.rival_reports),
        }
