"""`python -m benchmarks [--full] [--workers N] [--pairs N] [--only WORD]`."""

from __future__ import annotations

import argparse
import socket
import subprocess
import sys

from benchmarks import brokers, celery_side, containers, latency, report
from benchmarks.scenarios import SMALL_WIDTH, Figures, growth, measure, scenarios
from benchmarks.stroem_side import installation

SLOTS = 4


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks")
    parser.add_argument(
        "--full",
        action="store_true",
        help="also 2,000 and 10,000 steps, then 1 and 4 workers, Redis and RabbitMQ",
    )
    parser.add_argument("--workers", type=int, default=2, help="worker processes (default: 2)")
    parser.add_argument("--pairs", type=int, default=15, help="measurements (default: 15)")
    parser.add_argument("--only", default="", help="only scenarios with this word in their name")
    parser.add_argument(
        "--broker", default=None, help="URL of Stroem's broker (default: a temporary Valkey)"
    )
    chosen = parser.parse_args()
    sizes = (SMALL_WIDTH, 2000, 10_000) if chosen.full else (SMALL_WIDTH,)
    run("valkey" if chosen.broker is None else chosen.broker.partition(":")[0], chosen, sizes)
    if chosen.full:
        same = ["--pairs", str(chosen.pairs), "--only", chosen.only]
        for workers in (1, 4):
            again(*same, "--workers", str(workers))
        for broker in brokers.installed():
            with brokers.serving(broker) as url:
                again(*same, "--workers", str(chosen.workers), "--broker", url)


def again(*arguments: str) -> None:
    """Measure another setup in a new process: settings are read once per process."""
    subprocess.run([sys.executable, "-m", "benchmarks", *arguments], check=True)


def run(broker: str, chosen: argparse.Namespace, sizes: tuple[int, ...]) -> None:
    """Measure one setup and write its report."""
    found: list[Figures] = []
    workers: int = chosen.workers
    with installation(workers, SLOTS, chosen.broker) as (side, celery_url):
        with celery_side.workers(celery_url, workers, SLOTS, side.folder / "celery.log"):
            for scenario in scenarios(side, sizes=sizes, pairs=chosen.pairs):
                if chosen.only in scenario.name:
                    found.append(measure(scenario, say))
        notes = [grown(figures) for figures in found if "small" in figures.seconds]
        if not chosen.only:
            with socket.socket() as free:
                free.bind(("127.0.0.1", 0))
                port = free.getsockname()[1]
            token = latency.serve(side, port)
            waited = latency.summary(latency.submit_to_start_ms(side, port, token))
            notes.append(f"- POST execute to the script's first instruction: {waited} ms")
            notes.append(
                f"- idle: {latency.idle_cpu_percent(side):.1f} % of one core for all our processes"
            )
            notes += [
                f"- memory of {name}: {value:.0f} MB"
                for name, value in latency.memory_mb(side).items()
            ]
        if chosen.only in containers.NAME:
            notes += containers.compare(side, say)
    part = f"-{chosen.only.replace(' ', '-')}" if chosen.only else ""
    path = report.write(latency.results_folder(), f"{broker}-{workers}x{SLOTS}{part}", found, notes)
    print(path.read_text())


def grown(figures: Figures) -> str:
    spread = report.spread(growth(figures))
    return (
        f"- growth of a step's time from a fan-out of {SMALL_WIDTH} to a {figures.scenario.name}:"
        f" {spread}"
    )


def say(text: str) -> None:
    sys.stderr.write(f"\r{text:<60}")
    sys.stderr.flush()


if __name__ == "__main__":
    main()
