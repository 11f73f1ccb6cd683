"""Rounds: every contender once in each, so that whatever else the machine does meets them all alike."""

from collections.abc import Sequence
from statistics import median
from time import sleep

from benchmarks.contenders import PEERS, Contender

WARM_UP = 2
# between two: the kernel takes apart the network namespace of the last one, and making one waits for that
REST_S = 0.025


class Result:
    """What a contender took, in milliseconds."""

    def __init__(self, name: str, times_ms: list[float]) -> None:
        self.name = name
        self.median_ms = median(times_ms)
        self.least_ms = min(times_ms)

    def beside(self, other: "Result") -> tuple[float, float]:
        """The ratios of the medians and of the minima."""
        return self.median_ms / other.median_ms, self.least_ms / other.least_ms


def measure(contenders: Sequence[Contender], rounds: int) -> list[Result]:
    """Run all in turn; the first rounds are not counted."""
    times: dict[str, list[float]] = {one.name: [] for one in contenders}
    for number in range(rounds + WARM_UP):
        for one in contenders:
            sleep(REST_S)
            took_ms = one.once(number)
            if number >= WARM_UP:
                times[one.name].append(took_ms)
    return [Result(name, taken) for name, taken in times.items()]


def table(title: str, results: Sequence[Result]) -> str:
    """Medians and minima, and what they are beside the floor and the peers of the same run."""
    yardsticks = [one for one in results if one.name == "floor" or one.name.split()[0].removeprefix("new-") in PEERS]
    head = f"{title:24}{'median ms':>10}{'min ms':>9}" + "".join(f"{f'× {one.name}':>20}" for one in yardsticks)
    lines = [head]
    for one in results:
        ratios = (one.beside(other) for other in yardsticks)
        cells = "".join(f"{f'{middle:.2f} ({least:.2f})':>20}" for middle, least in ratios)
        lines.append(f"{one.name:24}{one.median_ms:10.2f}{one.least_ms:9.2f}{cells}")
    return "\n".join(lines)
