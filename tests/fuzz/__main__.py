"""Throws bytes at what reads bytes, guided by coverage, until the time is up or something does not hold.

    python -m tests.fuzz requests --seconds 180
    python -m tests.fuzz all --seconds 20 --seed 1
    python -m tests.fuzz requests --input FILE     once more, what was found

Needs atheris (``pip install --group fuzz``), which is libFuzzer for Python on Linux and macOS. What was found is put
into ``--found`` and belongs into the tests of the module it was found in. ``--corpus`` keeps what reached new code.
"""

import argparse
import importlib
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory

HERE = Path(__file__).parent
NAMES = ("scanner", "requests", "responses", "handed_over")
#: The first bytes of an input are the lengths of the pieces in which the rest arrives.
STEPS = 4
LONGEST = 2_000


def fuzz(name: str, seconds: int, seed: int, corpus: Path, found: Path) -> None:
    """Fuzz in this process, which ends with it."""
    import atheris

    with atheris.instrument_imports(include=["trillm", "h11"]):
        target = importlib.import_module(f"fuzz.{name}")
    for number, stream in enumerate(target.SEEDS):
        (corpus / f"seed-{number}").write_bytes(b"\x06\x00\x20\x02" + stream)
    words = corpus.parent / f"{name}.dict"
    words.write_text("".join(f'"{_escaped(word)}"\n' for word in target.WORDS))
    limits = [f"-max_total_time={seconds}", f"-seed={seed}", f"-max_len={LONGEST}", "-timeout=10", "-rss_limit_mb=1024"]
    options = [*limits, f"-dict={words}", f"-artifact_prefix={found}/", "-print_final_stats=1"]

    def check(data: bytes) -> None:
        target.check(data[STEPS:], data[:STEPS])

    atheris.Setup([sys.argv[0], *options, str(corpus)], check)
    atheris.Fuzz()


def _escaped(word: bytes) -> str:
    return "".join(f"\\x{byte:02x}" for byte in word)


def again(name: str, path: Path) -> None:
    """Check one input, without atheris."""
    data = path.read_bytes()
    importlib.import_module(f"fuzz.{name}").check(data[STEPS:], data[:STEPS])
    print(f"{path}: holds")


def run_apart(name: str, seconds: int, seed: int, corpus: Path | None, found: Path) -> bool:
    """Fuzz in a process of its own, since libFuzzer ends the one it runs in; say in a line what came of it."""
    with TemporaryDirectory() as folder:
        kept = (corpus or Path(folder)) / name
        kept.mkdir(parents=True, exist_ok=True)
        limits = ["--seconds", str(seconds), "--seed", str(seed)]
        command = [sys.executable, "-m", "tests.fuzz", name, *limits, "--corpus", kept, "--found", found, "--here"]
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
    output = done.stdout + done.stderr
    count = re.search(r"number_of_executed_units:\s*(\d+)", output)
    print(
        f"{name}: {count[1] if count else '?'} inputs in {seconds} s, {'all hold' if not done.returncode else 'BROKEN'}"
    )
    if done.returncode:
        print("\n".join(line[:2000] for line in output.splitlines() if not line.startswith("#")))  # "#": its progress
    return done.returncode == 0


def main() -> int:
    """Read the command line and run."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)  # fmt: skip
    parser.add_argument("name", choices=[*NAMES, "all"], help="what is to read")
    parser.add_argument("--seconds", type=int, default=60, metavar="N", help="for each (default: 60)")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of chance (default: another each time)")
    parser.add_argument("--corpus", type=Path, metavar="FOLDER", help="where inputs are kept and taken from")
    parser.add_argument(
        "--found", type=Path, default=Path(), metavar="FOLDER", help="where what broke something is put"
    )
    parser.add_argument("--input", type=Path, metavar="FILE", help="check this one only")
    parser.add_argument("--here", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    sys.path.insert(0, str(HERE.parent))  # as pytest does: tests import each other as ``fuzz`` and ``support``
    names = NAMES if args.name == "all" else (args.name,)
    if args.input:
        again(args.name, args.input)
        return 0
    if not find_spec("atheris"):
        print("atheris is not installed; 'pip install --group fuzz' installs it where it can be had", file=sys.stderr)
        return 2
    if args.here:
        fuzz(args.name, args.seconds, args.seed, args.corpus, args.found)
    held = [run_apart(name, args.seconds, args.seed, args.corpus, args.found) for name in names]
    return 0 if all(held) else 1


if __name__ == "__main__":
    sys.exit(main())
