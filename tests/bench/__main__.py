"""``python -m tests.bench``: every benchmark once, in short form; JSON lines on standard output.

Each runs in a process of its own, so that one that fails or fills the memory says nothing about the others.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
LIMIT_SECONDS = 300


def names() -> list[str]:
    """The benchmarks: every module here whose name does not begin with an underscore."""
    return sorted(path.stem for path in HERE.glob("*.py") if not path.stem.startswith("_"))


def main(argv: list[str] | None = None) -> int:
    """Run them all; the exit code is 1 when one of them failed."""
    arguments = sys.argv[1:] if argv is None else argv
    failed = []
    for name in names():
        print(f"== {name}", file=sys.stderr, flush=True)
        command = [sys.executable, "-m", f"tests.bench.{name}", *arguments]
        try:
            code = subprocess.run(command, timeout=None if arguments else LIMIT_SECONDS, check=False).returncode
        except subprocess.TimeoutExpired:
            code = -1
        if code:
            failed.append(name)
    if failed:
        print(f"failed: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
