"""Puts the newest results into the documentation: ``docs/measured/all.md``, which ``docs/performance.md`` includes.

    python -m benchmarks.publish             the newest of peers, scale and memory
    python -m benchmarks.publish peers       of these

A picture goes along where there is one, and the figures as JSON. What has no result stays as it was published before.
"""

import argparse
import shutil
from pathlib import Path

from benchmarks.concurrency import RESULTS, say

MEASURED = Path(__file__).parents[1] / "docs" / "measured"
KINDS = ("peers", "scale", "memory")
SUFFIXES = (".md", ".json", ".svg")


def newest(kind: str, folder: Path) -> Path | None:
    """Return the newest Markdown of a kind of benchmark; None if it was never run."""
    return max(folder.glob(f"{kind}-*.md"), default=None)


def publish(kind: str, results: Path, measured: Path) -> bool:
    """Copy the newest of a kind with what belongs to it; tell whether there was one."""
    found = newest(kind, results)
    if found is None:
        return False
    measured.mkdir(parents=True, exist_ok=True)
    for suffix in SUFFIXES:
        if (source := found.with_suffix(suffix)).exists():
            shutil.copyfile(source, measured / f"{kind}{suffix}")
    return True


def gather(measured: Path) -> None:
    """Write what was published of all kinds into one file, with the pictures as seen from the folder above."""
    parts = []
    for kind in KINDS:
        if (text := measured / f"{kind}.md").exists():
            heading, _, rest = text.read_text(encoding="utf-8").partition("\n")
            picture = f"\n![{heading.lstrip('# ')}]({measured.name}/{kind}.svg)\n"
            parts.append(heading + "\n" + (picture if text.with_suffix(".svg").exists() else "") + rest)
    (measured / "all.md").write_text("\n".join(parts), encoding="utf-8")


def main() -> None:
    """Read the command line and copy."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kinds", nargs="*", metavar="KIND", help=f"of {', '.join(KINDS)} (default: all)")
    parser.add_argument("--results", type=Path, default=RESULTS, metavar="FOLDER")
    args = parser.parse_args()
    if unknown := set(args.kinds) - set(KINDS):
        parser.error(f"no such kind: {', '.join(unknown)}; there are {', '.join(KINDS)}")
    for kind in args.kinds or KINDS:
        done = publish(kind, args.results, MEASURED)
        say(f"{kind}: {f'published to {MEASURED}' if done else f'no result in {args.results}'}")
    gather(MEASURED)


if __name__ == "__main__":
    main()
