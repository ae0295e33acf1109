"""Build of the compiled modules; everything else about the package stands in pyproject.toml.

EMGD_CHECKS=1 builds with bounds checks on, for a test run that would rather crash than be fast; EMGD_SANITIZE=1 does so
and adds the address and undefined-behaviour sanitizers (scripts/test-sanitized).
"""

import os

from Cython.Build import cythonize
from setuptools import Extension, setup

SANITIZE = os.environ.get("EMGD_SANITIZE") == "1"
CHECKS = SANITIZE or os.environ.get("EMGD_CHECKS") == "1"
EXT = "ext/emgd_ext"

# -ffp-contract=off: no fused multiply-add behind our back, so that filtered samples are the same bits on every machine.
FLAGS = ["-std=gnu11", "-fvisibility=hidden", "-ffp-contract=off", "-Wall", "-Wextra", "-Wno-unused-parameter"]

SANITIZERS = ["-fsanitize=address,undefined", "-fno-sanitize-recover=undefined"]
FLAGS += ["-O1", "-g", "-fno-omit-frame-pointer", *SANITIZERS] if SANITIZE else ["-O3"]

# Cython module -> the C kernels that it wraps.
MODULES: dict[str, list[str]] = {
    "kernels": ["crc.c", "unpack.c"],
    "cascade": ["biquad.c"],
    "clock": [],
    "ring": ["ring.c"],
    "source": [],
    "usb": ["bulk.c", "usb_abi.c"],
    "decoder": [],
    "emg8": ["crc.c", "unpack.c"],
    "fixed": ["count.c", "layout.c"],
    "gate": ["dose.c", "gate.c", "gate_limits.c", "gate_pass.c", "judge.c", "readback.c", "shot.c"],
    "loop": ["biquad.c", "ring.c", "sequence.c", "unpack.c"],
    "template": [],
    "prefixes": [],
    "publish": ["ring.c"],
}


def extension(name: str, kernels: list[str]) -> Extension:
    """One Cython module with its kernels."""
    return Extension(
        f"emgd_ext.{name}",
        [f"{EXT}/{name}.pyx", *(f"{EXT}/c/{kernel}" for kernel in kernels)],
        include_dirs=[f"{EXT}/c"],
        extra_compile_args=FLAGS,
        extra_link_args=SANITIZERS if SANITIZE else [],
        libraries=["dl", "pthread", "m"],
    )


setup(
    ext_modules=cythonize(
        [extension(name, kernels) for name, kernels in MODULES.items()],
        include_path=["ext"],
        compiler_directives={
            "language_level": 3,
            "boundscheck": CHECKS,
            "wraparound": False,
            "cdivision": True,
            "initializedcheck": CHECKS,
            "freethreading_compatible": False,
        },
    )
)
