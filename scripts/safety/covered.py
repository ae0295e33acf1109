"""Are all lines and branches of the gate's C run by its tests? Fails below 100 %, and names what was not.

gcc's own gcov measures; branches that cannot be taken stand in covered.toml with the reason.
"""

import gzip
import json
import os
import subprocess
import sys
import tomllib
from pathlib import Path

import variant

ALLOWED = Path(__file__).with_name("covered.toml")


def measured(folder: Path) -> list[dict]:
    """What gcov has of each source."""
    command = ["gcov", "--json-format", "--branch-probabilities", *map(str, folder.glob("*.gcda"))]
    subprocess.run(command, cwd=folder, check=True, stdout=subprocess.DEVNULL)
    names = {source.name for source in variant.sources()}
    found = []
    for report in sorted(folder.glob("*.gcov.json.gz")):
        files = json.loads(gzip.decompress(report.read_bytes()))["files"]
        found += [file for file in files if Path(file["file"]).name in names]
    return found


def judge(file: dict, allowed: dict[tuple[str, str], int]) -> list[str]:
    """Print the figures of a file; returns what is missing."""
    path = Path(file["file"])
    text = path.read_text().splitlines()
    missing = []
    branches = taken = lines_run = 0
    for line in file["lines"]:
        here = text[line["line_number"] - 1].strip()
        place = f"{path.name}:{line['line_number']}: "
        lines_run += line["count"] > 0
        if not line["count"]:
            missing.append(f"{place}never run: {here}")
        idle = sum(branch["count"] == 0 for branch in line["branches"])
        excused = min(idle, allowed.get((path.name, here), 0))
        branches += len(line["branches"]) - excused
        taken += len(line["branches"]) - idle
        if line["count"] and idle > excused:
            missing.append(f"{place}{idle} of {len(line['branches'])} branches never taken: {here}")
    print(f"{path.name:15} lines {lines_run} / {len(file['lines'])}, branches {taken} / {branches}")
    return missing


def main() -> int:
    """Build, run the tests, compare. Arguments go to pytest."""
    folder = variant.fresh_folder("coverage")
    objects = []
    for source in variant.sources():
        objects.append(folder / f"{source.stem}.o")
        if not variant.compile_source(source, objects[-1], "--coverage"):
            raise SystemExit(f"{source} does not compile")
    built = variant.link(objects, folder / "gate.so", "--coverage")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/safety", *sys.argv[1:]]
    tests = subprocess.run(command, cwd=variant.ROOT, check=False, env={**os.environ, "EMGD_GATE_VARIANT": str(built)})
    if tests.returncode:
        return tests.returncode
    entries = tomllib.loads(ALLOWED.read_text())["unreachable"] if ALLOWED.exists() else []
    allowed = {(entry["file"], entry["line"]): entry["branches"] for entry in entries}
    files = measured(folder)
    missing = [gap for file in files for gap in judge(file, allowed)]
    if len(files) != len(objects):
        missing.append(f"gcov knows {len(files)} of {len(objects)} files")
    for gap in missing:
        print(gap)
    return 1 if missing else 0


if __name__ == "__main__":
    sys.exit(main())
