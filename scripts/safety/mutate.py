"""Do the tests of the gate notice every small fault in it?

Seeds one fault at a time (mutations.py), builds that gate and runs tests/safety against it. A fault that no test sees
must be one that changes nothing, and stand in equivalent.toml with the reason; any other fails this run.
"""

import argparse
import contextlib
import functools
import gc
import importlib.util
import os
import random
import resource
import signal
import subprocess
import sys
import time
import tomllib
from dataclasses import dataclass
from pathlib import Path

import mutations
import pytest
import variant

EQUIVALENT = Path(__file__).with_name("equivalent.toml")
CPU_S = 5  # all tests take two; a loop that does not end is noticed by this ...
TIMEOUT_S = 300  # ... or by this, should it sleep
KILLED, SURVIVED, UNBUILT, BROKEN = "killed", "survived", "does not compile", "broken"
# Ends of a process that tried one. Anything else is no verdict.
VERDICTS = {0: SURVIVED, 1: KILLED, 100: UNBUILT}


@dataclass(frozen=True)
class Case:
    """A fault in a file."""

    number: int
    source: Path
    mutant: mutations.Mutant

    @functools.cached_property
    def text(self) -> str:
        """The file without the fault."""
        return self.source.read_text()

    @property
    def lines(self) -> tuple[str, str]:
        """The line (or lines) before and after."""
        start = self.text.rfind("\n", 0, self.mutant.start) + 1
        end = self.text.find("\n", self.mutant.end)
        after = self.text[start : self.mutant.start] + self.mutant.becomes + self.text[self.mutant.end : end]
        return " ".join(self.text[start:end].split()), " ".join(after.split())

    @property
    def key(self) -> tuple[str, str, str]:
        """How equivalent.toml names it."""
        return (self.source.name, *self.lines)

    def __str__(self) -> str:
        line = self.text.count("\n", 0, self.mutant.start) + 1
        before, after = self.lines
        return f"{self.source.name}:{line}: {self.mutant.what}\n    - {before}\n    + {after}"


def cases() -> list[Case]:
    """All faults in all files of the gate."""
    found = [(source, mutant) for source in variant.sources() for mutant in mutations.mutants_of(source.read_text())]
    return [Case(number, *pair) for number, pair in enumerate(found)]


def explained() -> dict[tuple[str, str, str], str]:
    """(file, line, line after) -> why it changes nothing."""
    if not EQUIVALENT.exists():
        return {}
    entries = tomllib.loads(EQUIVALENT.read_text())["equivalent"]
    return {(entry["file"], entry["line"], after): entry["why"] for entry in entries for after in entry["becomes"]}


def build(case: Case, folder: Path, originals: dict[Path, Path]) -> Path | None:
    """The gate with the fault, or nothing where that is no C."""
    source = folder / case.source.name
    source.write_text(case.mutant.apply(case.text))
    if not variant.compile_source(source, folder / "mutant.o"):
        return None
    objects = [folder / "mutant.o" if path == case.source else made for path, made in originals.items()]
    return variant.link(objects, folder / "gate.so")


def same_machine_code(case: Case, folder: Path) -> bool:
    """An optimising compiler makes the same of both: then there is no fault."""
    codes = []
    for name, text in (("same", case.text), ("changed", case.mutant.apply(case.text))):
        (folder / name).mkdir(exist_ok=True)
        source = folder / name / case.source.name
        source.write_text(text)
        if not variant.compile_source(source, folder / f"{name}.o", "-O2"):
            return False
        subprocess.run(["objcopy", "-O", "binary", f"{name}.o", f"{name}.bin"], cwd=folder, check=True)
        codes.append((folder / f"{name}.bin").read_bytes())
    return codes[0] == codes[1]


def load(built: Path) -> None:
    """Put the faulty gate in the place of the good one, in this process and in all modules of the tests."""
    os.environ["EMGD_GATE_VARIANT"] = str(built)
    good = sys.modules.pop("emgd_ext.gate")
    spec = importlib.util.spec_from_file_location("emgd_ext.gate", built)
    if not spec or not spec.loader:
        raise ImportError(f"{built} is no module")
    faulty = sys.modules["emgd_ext.gate"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(faulty)
    for module in list(sys.modules.values()):
        if "tests/safety" not in (getattr(module, "__file__", None) or ""):
            continue
        for name, value in vars(module).items():
            if value is getattr(good, name, None) is not None:
                setattr(module, name, getattr(faulty, name))


def order(test: pytest.Item) -> bool:
    """The walks see most faults, so they come first."""
    return "walk[" not in test.nodeid


class Mutation:
    """A plugin of pytest: where the tests would be run, it runs them once for each fault, in a process forked off.

    So Python, pytest and the tests are loaded once; a fault costs its build and the tests up to the one that sees it.
    """

    def __init__(self, chosen: list[Case], processes: int) -> None:
        self.chosen = chosen
        self.processes = processes
        self.verdicts: dict[Case, str] = {}
        self.reasons = explained()

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        """All faults, some at a time."""
        session.items.sort(key=order)
        variant.fresh_folder("mutants")
        originals = {source: variant.BUILD / f"{source.stem}.o" for source in variant.sources()}
        for source, made in originals.items():
            if not variant.compile_source(source, made):
                raise SystemExit(f"{source} does not compile")
        variant.wrapper()
        gc.freeze()  # what is never collected stays shared with the forked processes
        gc.disable()
        waiting, running = list(reversed(self.chosen)), {}
        with contextlib.suppress(KeyboardInterrupt):  # then the report is about those that were tried
            while waiting or running:
                while waiting and len(running) < self.processes:
                    case = waiting.pop()
                    running[self.start(session, case, originals)] = case
                child, status = os.wait()
                self.note(running.pop(child), child, status)
        return True

    def start(self, session: pytest.Session, case: Case, originals: dict[Path, Path]) -> int:
        """A process that tries a fault; its id."""
        child = os.fork()
        if child:
            return child
        resource.setrlimit(resource.RLIMIT_CPU, (CPU_S, CPU_S))
        signal.alarm(TIMEOUT_S)
        quiet = os.open(os.devnull, os.O_WRONLY)
        os.dup2(quiet, 1)
        os.dup2(quiet, 2)
        code = 101
        try:
            code = self.test(session, case, originals)
        finally:
            os._exit(code)

    @staticmethod
    def test(session: pytest.Session, case: Case, originals: dict[Path, Path]) -> int:
        """In that process: build, then test until something fails."""
        folder = variant.BUILD / "mutants" / str(os.getpid())
        folder.mkdir(parents=True)
        built = build(case, folder, originals)
        if built is None:
            return 100
        load(built)
        for item, following in zip(session.items, [*session.items[1:], None], strict=True):
            item.config.hook.pytest_runtest_protocol(item=item, nextitem=following)
            if session.testsfailed:
                return 1
        return 0

    def note(self, case: Case, child: int, status: int) -> None:
        """What came of it."""
        verdict = KILLED if os.WIFSIGNALED(status) else VERDICTS.get(os.WEXITSTATUS(status), BROKEN)
        if verdict == SURVIVED and same_machine_code(case, variant.fresh_folder("same")):
            verdict = UNBUILT
        self.verdicts[case] = verdict
        variant.shutil.rmtree(variant.BUILD / "mutants" / str(child), ignore_errors=True)
        if verdict in {SURVIVED, BROKEN} and case.key not in self.reasons:
            print(f"{verdict}: {case}", file=sys.stderr)
        if len(self.verdicts) % 100 == 0:
            print(f"{len(self.verdicts)} / {len(self.chosen)}", file=sys.stderr, flush=True)


def report(verdicts: dict[Case, str], *, whole: bool) -> int:
    """Print it; 1 when a fault went unnoticed."""
    reasons = explained()
    used, unexplained = set(), []
    for case, verdict in sorted(verdicts.items(), key=lambda pair: pair[0].number):
        if verdict == SURVIVED and case.key in reasons:
            used.add(case.key)
        elif verdict in {SURVIVED, BROKEN}:
            unexplained.append(f"{verdict}: {case}")
    killed = sum(verdict == KILLED for verdict in verdicts.values())
    print(*unexplained, sep="\n")
    stale = sorted(set(reasons) - used) if whole else []
    for file, line, after in stale:
        print(f"equivalent.toml explains what is no survivor any more: {file}: {line} -> {after}")
    print(
        f"{killed} of {killed + len(used) + len(unexplained)} mutants killed, "
        f"{len(used)} change nothing (equivalent.toml), {len(unexplained)} unexplained"
    )
    return 1 if unexplained or stale else 0


def main() -> int:
    """Choose, run, report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sample", type=int, metavar="N", help="only N of them, chosen by --seed")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--skip", type=int, default=0, metavar="N", help="go on where a run with this seed was interrupted"
    )
    parser.add_argument("--only", default="", metavar="TEXT", help="only in files, or on lines, with this in them")
    parser.add_argument("--jobs", type=int, default=2)
    options = parser.parse_args()
    os.chdir(variant.ROOT)
    os.environ.setdefault("EMGD_WALKS", "10")  # what they do not see is for the other tests
    chosen = [case for case in cases() if options.only in f"{case.source.name}: {case.lines[0]}"]
    random.Random(options.seed).shuffle(chosen)  # noqa: S311 (an interrupted run is then a fair sample)
    whole = len(chosen)
    chosen = chosen[options.skip :][: options.sample]
    began = time.monotonic()
    mutation = Mutation(chosen, options.jobs)
    quiet = ["--assert=plain", "-o", "addopts=", "-o", "timeout=0", "-W", "default"]
    quiet += [word for plugin in ("terminal", "faulthandler", "cacheprovider") for word in ("-p", f"no:{plugin}")]
    # Without the machine: what sees a fault has to be the same each time.
    ended = pytest.main([*quiet, "-k", "not machine", "tests/safety"], plugins=[mutation])
    if ended:
        raise SystemExit(f"the tests could not be run (pytest ended with {ended})")
    tried = len(mutation.verdicts)
    code = report(mutation.verdicts, whole=tried == whole and not options.only)
    print(f"{tried} of {whole} faults tried in {time.monotonic() - began:.0f} s")
    return code


if __name__ == "__main__":
    sys.exit(main())
