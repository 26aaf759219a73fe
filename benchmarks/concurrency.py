"""What trillm adds and costs as requests come in by the hundred: direct, through trillm, through a naive proxy.

    python -m benchmarks.concurrency            ten minutes or more; best on a machine that does nothing else
    python -m benchmarks.concurrency --quick    half a minute, for continuous integration

Everything runs on this machine, each server in a process of its own. Tables go to standard output and, with JSON and a
picture, to benchmarks/results/.
"""

import argparse
import json
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import trio
from attrs import evolve

from benchmarks import picture, tables
from benchmarks.environment import Environment
from benchmarks.faces import Face, open_faces
from benchmarks.measure import Plan, measure_all
from benchmarks.processes import raise_file_limit
from benchmarks.results import Results

RESULTS = Path(__file__).parent / "results"
QUICK = Plan(concurrency=(1, 50), rounds=1, seconds=1.0, warmup_s=0.7)


async def run(plan: Plan, *, tokens: int, gap_s: float, naive: bool) -> Results:
    """Start everything, measure, end everything."""
    environment = Environment.now()
    say(str(environment))
    raise_file_limit()
    with TemporaryDirectory() as folder:
        async with open_faces(Path(folder), tokens=tokens, gap_s=gap_s, naive=naive) as faces:
            before = _rss(faces)
            samples = await measure_all(plan, faces, say)
            after = _rss(faces)
    memory = {name: (rss, end) if rss and (end := after[name]) else None for name, rss in before.items()}
    pace = (
        f"The upstream answers plain chats at once and streams {tokens} tokens, one every {gap_s * 1000:g} ms. "
        f"Every load was measured {plan.rounds} times for {plan.seconds:g} s, the ways in turn. "
        "What is *added* is over direct, in ms."
    )
    return Results(environment, plan, pace, samples, memory)


def write(results: Results, folder: Path) -> None:
    """Write JSON, Markdown and SVG under the date of the run, and the Markdown to standard output."""
    folder.mkdir(parents=True, exist_ok=True)
    stem = results.environment.stem("concurrency")
    text = tables.markdown(results)
    (folder / f"{stem}.json").write_text(json.dumps(results.to_json(), indent=1), encoding="utf-8")
    (folder / f"{stem}.md").write_text(text, encoding="utf-8")
    (folder / f"{stem}.svg").write_text(picture.draw(results), encoding="utf-8")
    print(text)
    say(f"Written: {folder / stem}.json, .md, .svg")


def _rss(faces: list[Face]) -> dict[str, int | None]:
    costs = {face.name: face.server.cost() for face in faces}
    return {name: cost.rss_bytes if cost else None for name, cost in costs.items()}


def say(text: str) -> None:
    """Show progress."""
    print(text, file=sys.stderr, flush=True)


def main() -> None:
    """Read the command line and run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="few and short rounds")
    parser.add_argument("--concurrency", type=lambda text: tuple(map(int, text.split(","))), metavar="N,N,...")
    parser.add_argument("--rounds", type=int, metavar="N", help="how often each load is measured")
    parser.add_argument("--seconds", type=float, help="of each round")
    parser.add_argument("--tokens", type=int, default=64, help="in each stream (default: 64)")
    parser.add_argument("--gap", type=float, default=0.01, help="seconds between two tokens (default: 0.01)")
    parser.add_argument("--no-naive", action="store_true", help="without the baseline")
    parser.add_argument("--output", type=Path, default=RESULTS, metavar="FOLDER")
    args = parser.parse_args()
    given = {name: value for name in ("concurrency", "rounds", "seconds") if (value := getattr(args, name))}
    plan = evolve(QUICK if args.quick else Plan(), **given)

    async def everything() -> Results:
        return await run(plan, tokens=args.tokens, gap_s=args.gap, naive=not args.no_naive)

    write(trio.run(everything), args.output)


if __name__ == "__main__":
    main()
