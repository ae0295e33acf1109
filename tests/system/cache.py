"""Where what is built for the virtual machine is kept: outside of the repository, one folder per recipe, few of each
kind.

A folder is built under another name and moved into place when complete, so that a build that was cut off is never taken
for a whole one. Two builds at once wait for one another.
"""

import fcntl
import hashlib
import os
import shutil
import time
from contextlib import contextmanager
from pathlib import Path

KEEP = 3
"""Folders of one kind: one is in use, the others spare a rebuild when somebody goes from branch to branch and back."""


def root():
    """`$EMGD_CACHE`, or `emgd` in the user's cache folder."""
    if chosen := os.environ.get("EMGD_CACHE"):
        return Path(chosen)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "emgd"


def key_of(*parts):
    """A name for what is made from these texts and files."""
    digest = hashlib.sha256()
    for part in parts:
        content = part.read_bytes() if isinstance(part, Path) else str(part).encode()
        digest.update(len(content).to_bytes(8, "little") + content)
    return digest.hexdigest()[:16]


def folder(kind, key, build):
    """The folder of that kind and key; `build(folder)` fills it when it is not there yet."""
    wanted = root() / f"{kind}-{key}"
    with _alone(kind):
        if not wanted.is_dir():
            partial = root() / f"{kind}-partial"
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir()
            begun = time.monotonic()
            build(partial)
            partial.rename(wanted)
            print(f"built the {kind} in {time.monotonic() - begun:.0f} s", flush=True)
        # What was used last is kept.
        os.utime(wanted)
        others = [path for path in root().glob(f"{kind}-*") if path != wanted]
        for old in sorted(others, key=lambda path: path.stat().st_mtime, reverse=True)[KEEP - 1 :]:
            shutil.rmtree(old, ignore_errors=True)
    return wanted


@contextmanager
def _alone(kind):
    root().mkdir(parents=True, exist_ok=True)
    with (root() / f"{kind}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
