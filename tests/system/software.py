"""What is tested: a wheel of this checkout, installed as docs/installation.md says, on a disk of its own.

That disk holds `emgd/` (the virtual environment, mounted at /opt/emgd) and `tools/` (pytest and what else tests in the
guest import); it is kept until the product changes. A second, small one holds tests, docs and systemd files as they
are now. Needs root: programs are installed by the guest's own Python, in a chroot.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import cache

ROOT = Path(__file__).parents[2]

PRODUCT = ["setup.py", "pyproject.toml", "MANIFEST.in", "README.md", "LICENSE", "ext", "drivers", "daemon", "clients"]
CHECKOUT = ["pyproject.toml", "tests", "docs", "systemd"]

TOOLS = ["pytest", "pytest-timeout", "hypothesis"]

COMPILE_JOBS = 2
SPARE_MB = 16


def installed_disk(guest):
    """The disk with the installed programs for that guest (a folder of image.py); built when the product changed."""
    key = cache.key_of(guest.name, Path(__file__), *contents(PRODUCT))
    return cache.folder("installed", key, lambda folder: install(guest, folder)) / "installed.ext4"


def checkout_disk(target):
    """Write the disk with the files of this checkout that a guest needs."""
    stage = target.with_suffix(".tree")
    export(CHECKOUT, stage)
    make_disk(stage, target)
    return target


def export(names, target):
    """Copy these files of the checkout, as they are now, to an empty folder."""
    shutil.rmtree(target, ignore_errors=True)
    for name in files(names):
        copy = target / name
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, copy)


def files(names):
    """Files of this checkout below these, new ones included, built ones not; relative to its root."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", "--", *names],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    )
    return sorted(name for name in set(listed.stdout.split("\0")) if name and (ROOT / name).is_file())


def contents(names):
    """What identifies these files: names and bytes."""
    for name in files(names):
        yield name
        yield ROOT / name


def install(guest, target):
    """Build the wheel, install it in the guest's root file system, and make a disk of the result."""
    print("building a wheel and installing it for the guest (a minute) ...", flush=True)
    rootfs, stage = guest / "rootfs", target / "stage"
    theirs = (rootfs / "usr/bin/python3").readlink().name
    ours = f"python{sys.version_info[0]}.{sys.version_info[1]}"
    if theirs != ours:
        raise SystemExit(
            f"the guest has {theirs}, so the wheel must be built by it and not by {ours}; use Debian's own"
        )
    inside, wheels = rootfs / "opt/emgd", rootfs / "opt/wheels"
    for path in (inside, wheels):
        shutil.rmtree(path, ignore_errors=True)
        path.mkdir()
    # Elsewhere, because setuptools would take what it finds in an old build folder into the wheel.
    source = target / "source"
    export(PRODUCT, source)
    settings = target / "build.cfg"
    settings.write_text(f"[build_ext]\nparallel = {COMPILE_JOBS}\n")
    subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "--quiet", "--disable-pip-version-check", "-w", wheels, source, *TOOLS],
        check=True,
        env={**os.environ, "DIST_EXTRA_CONFIG": str(settings)},
    )
    in_guest(rootfs, "python3", "-m", "venv", "/opt/emgd")
    offline = ["/opt/emgd/bin/pip", "install", "--quiet", "--no-index", "--find-links=/opt/wheels"]
    in_guest(rootfs, *offline, "emgd")
    in_guest(rootfs, *offline, "--target=/opt/emgd/tools", *TOOLS)
    stage.mkdir()
    shutil.move(inside / "tools", stage / "tools")
    shutil.move(inside, stage / "emgd")
    inside.mkdir()
    make_disk(stage, target / "installed.ext4")
    shutil.rmtree(wheels)
    shutil.rmtree(source)
    settings.unlink()


def in_guest(rootfs, *command):
    """Run a command of the guest's, here: this machine's processor is faster than the guest's."""
    environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root", "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    subprocess.run(["chroot", rootfs, *command], check=True, env=environment)


def make_disk(stage, target):
    """An ext4 file system with what is in `stage`, which is gone then."""
    size_mb = sum(path.lstat().st_blocks for path in stage.rglob("*")) * 512 // 2**20 * 5 // 4 + SPARE_MB
    target.unlink(missing_ok=True)
    subprocess.run(
        ["mke2fs", "-q", "-t", "ext4", "-O", "^has_journal", "-d", stage, target, f"{size_mb}M"],
        check=True,
        stdout=subprocess.DEVNULL,
    )
    shutil.rmtree(stage)


if __name__ == "__main__":
    import image

    print(installed_disk(image.folder()))
