"""Other builds of the gate for its tests: with coverage counters, or with a fault seeded.

A variant is the compiled module `emgd_ext.gate` somewhere else; tests/safety/conftest.py takes the one that
EMGD_GATE_VARIANT names. Its C functions are visible, so that the tests of the C itself need no second build. The
wrapper is compiled once; a variant costs one C file and a link.
"""

import ast
import shutil
import subprocess
import sysconfig
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
EXT = ROOT / "ext" / "emgd_ext"
BUILD = ROOT / "build" / "safety"
CC = ("gcc", "-std=gnu11", "-O0", "-fPIC", "-w", f"-I{EXT}/c")


def sources() -> list[Path]:
    """The C files of the gate, as setup.py lists them."""
    for node in ast.parse((ROOT / "setup.py").read_text()).body:
        if isinstance(node, ast.AnnAssign) and getattr(node.target, "id", "") == "MODULES" and node.value:
            return [EXT / "c" / name for name in ast.literal_eval(node.value)["gate"]]
    raise SystemExit(
        "setup.py has no table MODULES any more: scripts/safety/variant.py takes the list of C files from it"
    )


def is_newer(made: Path, *origins: Path) -> bool:
    """Than all that it was made from."""
    return made.exists() and all(made.stat().st_mtime > origin.stat().st_mtime for origin in origins)


def run(*command: str | Path) -> None:
    """A step of a build; SystemExit with what the compiler said."""
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{command[0]} failed:\n{done.stderr}")


def wrapper() -> Path:
    """Object file of the Cython wrapper."""
    BUILD.mkdir(parents=True, exist_ok=True)
    made, c = BUILD / "wrapper.o", BUILD / "gate.c"
    if not is_newer(made, EXT / "gate.pyx", EXT / "gate.pxd", *(EXT / "c").glob("*.h")):
        cython = str(Path(sysconfig.get_path("scripts")) / "cython")
        run(cython, "-3", "-X", "wraparound=False,cdivision=True", "-I", EXT.parent, EXT / "gate.pyx", "-o", c)
        run(*CC, f"-I{sysconfig.get_paths()['include']}", "-c", c, "-o", made)
    return made


def compile_source(source: Path, made: Path, *flags: str) -> bool:
    """False when it does not compile."""
    strict = ("-Werror=return-type", "-Werror=implicit-function-declaration")
    command = [*CC, *flags, *strict, "-c", str(source), "-o", str(made)]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def link(objects: list[Path], made: Path, *flags: str) -> Path:
    """The module from the wrapper and some objects."""
    run("gcc", "-shared", *flags, wrapper(), *objects, "-o", made)
    return made


def fresh_folder(name: str) -> Path:
    """An empty one below build/."""
    folder = BUILD / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder
