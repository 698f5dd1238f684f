"""Counts verdicts, and makes a report of them. No IO but the report's file."""

import json
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from scipy.stats import beta

from optimizely_api.comparison.load.histogram import Histogram
from optimizely_api.proof.judge import BAD_VERDICTS, Judgement, Question, Received, Verdict

CONFIDENCE: Final = 0.95
MUCH_OF_OTHERS: Final = 0.1  # of the processors
MOST_EXAMPLES: Final = 20  # of each verdict
MOST_SHOWN: Final = 5  # of them in the summary
LONGEST_EXCERPT: Final = 400
# What a worker that is killed or frozen does to the requests in it; nothing excuses a wrong response.
EXCUSABLE: Final = frozenset({Verdict.LATE, Verdict.UNEXPLAINED})


def interval(bad: int, number: int) -> tuple[float, float]:
    """The interval of Clopper and Pearson for a share, with a confidence of 95 %.

    Where none is bad it is one-sided, and its upper end is about 3 / number (the rule of three).
    """
    if not number:
        return 0.0, 1.0
    if not bad:
        return 0.0, float(1 - (1 - CONFIDENCE) ** (1 / number))
    tail = (1 - CONFIDENCE) / 2
    upper = 1.0 if bad == number else float(beta.ppf(1 - tail, bad + 1, number - bad))
    return float(beta.ppf(tail, bad, number - bad + 1)), upper


@dataclass
class Tally:
    """The verdicts of a run.

    `apart` counts requests that were in flight in a worker while it was killed or frozen, by what happened to it; they
    are in no other count. `of_fault` has, by kind of fault, the requests that were in flight while it lasted.
    """

    verdicts: Counter[Verdict] = field(default_factory=Counter)
    apart: Counter[str] = field(default_factory=Counter)
    of_fault: dict[str, Counter[Verdict]] = field(default_factory=dict)
    statuses: Counter[int] = field(default_factory=Counter)
    latency: Histogram = field(default_factory=Histogram)
    examples: list[dict[str, Any]] = field(default_factory=list)

    @property
    def judged(self) -> int:
        return self.verdicts.total()

    @property
    def bad(self) -> int:
        return sum(self.verdicts[verdict] for verdict in BAD_VERDICTS)

    def record(
        self,
        judgement: Judgement,
        question: Question,
        received: Received,
        *,
        at: float,
        request_id: str,
        faults: Collection[str],
        interruption: str | None,
    ) -> None:
        """Count one request; `at` is when it was sent, `interruption` what happened to a worker meanwhile."""
        verdict, why = judgement
        self.statuses[received.status] += 1
        self.latency.record_us(int(received.seconds * 1e6))
        is_apart = verdict in EXCUSABLE and interruption is not None
        if verdict.is_bad:
            example = _example(question, received, verdict, why, at, request_id)
            self._keep({**example, "faults": sorted(faults), "apart": interruption if is_apart else None})
        if is_apart and interruption is not None:
            self.apart[interruption] += 1
            return
        self.verdicts[verdict] += 1
        for kind in faults:
            self.of_fault.setdefault(kind, Counter())[verdict] += 1

    def _keep(self, example: dict[str, Any]) -> None:
        alike = (
            each
            for each in self.examples
            if (each["verdict"], each["apart"]) == (example["verdict"], example["apart"])
        )
        if sum(1 for _ in alike) < MOST_EXAMPLES:
            self.examples.append(example)

    def to_json(self) -> dict[str, Any]:
        return {
            "judged": self.judged,
            "bad": self.bad,
            "interval": interval(self.bad, self.judged),
            "verdicts": {
                verdict.value: {
                    "number": self.verdicts[verdict],
                    "interval": interval(self.verdicts[verdict], self.judged),
                }
                if verdict.is_bad
                else {"number": self.verdicts[verdict]}
                for verdict in Verdict
            },
            "apart": dict(sorted(self.apart.items())),
            "of_fault": {
                kind: {
                    "judged": counts.total(),
                    "bad": _bad(counts),
                    "interval": interval(_bad(counts), counts.total()),
                }
                for kind, counts in sorted(self.of_fault.items())
            },
            "statuses": {str(status): number for status, number in sorted(self.statuses.items())},
            "p50_ms": self.latency.percentile(50),
            "p99_ms": self.latency.percentile(99),
            "max_ms": self.latency.max,
            "examples": self.examples,
        }


def _bad(counts: Mapping[Verdict, int]) -> int:
    return sum(counts.get(verdict, 0) for verdict in BAD_VERDICTS)


def _example(
    question: Question, received: Received, verdict: Verdict, why: str, at: float, request_id: str
) -> dict[str, Any]:
    return {
        "at": round(at, 3),
        "verdict": verdict.value,
        "why": why,
        "request": f"{question.method} {question.path}",
        "request_id": request_id,
        "status": received.status,
        "seconds": round(received.seconds, 3),
        "body": received.body[:LONGEST_EXCERPT].decode("utf-8", "replace"),
    }


def summary(document: Mapping[str, Any]) -> list[str]:
    """The report in lines of text."""
    judged = document["judged"]
    lines = [
        f"Seed {document['seed']}, {len(document['faults'])} faults, {judged:,} responses judged, "
        f"{document['bad']:,} bad: {_share(document['bad'], judged, document['interval'])}"
    ]
    for name, each in document["verdicts"].items():
        share = f": {_share(each['number'], judged, each['interval'])}" if "interval" in each else ""
        lines.append(f"  {each['number']:>8,}  {name}{share}")
    lines += [f"  {number:>8,}  counted apart: {name}" for name, number in document["apart"].items()]
    written, recovered = document["written"], document["recovered_seconds"]
    lines.append(
        f"Acknowledged: {written['attributes']:,} attributes, {written['batches']:,} batches of events. "
        + (
            "Not all answers were right again."
            if recovered is None
            else f"All right again after {recovered:.1f} s."
        )
    )
    lines += [
        f"Memory of the {name}: a median of {each['first_bytes'] / 1e6:.0f} MB in the first fifth of the time, of "
        f"{each['last_bytes'] / 1e6:.0f} MB in the last; {each['most_bytes'] / 1e6:.0f} MB at most"
        for name, each in document["memory"].items()
    ]
    if (others := document["others_share"] or 0.0) >= MUCH_OF_OTHERS:
        lines.append(
            f"Other programs took {100 * others:.0f} % of the processors: what is late may be so by them."
        )
    for example in [each for each in document["examples"] if each["apart"] is None][:MOST_SHOWN]:
        lines.append(f"Bad, at {example['at']:.1f} s: {example['request']}: {example['why']}")
        lines += [f"    {line.strip()}" for line in example["log"][-1:]]
    lines.append("While a fault lasted:")
    for kind, each in document["of_fault"].items():
        share = _share(each["bad"], each["judged"], each["interval"])
        lines.append(f"  {kind:<16} {each['bad']:>6,} bad of {each['judged']:>8,}: {share}")
    return lines


def _share(bad: int, number: int, bounds: tuple[float, float]) -> str:
    low, high = (f"{100 * bound:.4f} %" for bound in bounds)
    if not bad:
        return f"at most {high} (95 %)"
    return f"{100 * bad / number:.4f} % ({low} to {high}, 95 %)"


def write_json(document: Mapping[str, Any], path: Path) -> None:
    temporary = path.with_name(f".{path.name}.part")
    temporary.write_text(json.dumps(document, indent=1), encoding="utf-8")
    temporary.replace(path)
