"""Build of the compiled modules; everything else about the package stands in pyproject.toml.

EMGD_CHECKS=1 builds with bounds checks and C assertions on, for a test run that would rather crash than be fast.
"""

import os

from Cython.Build import cythonize
from setuptools import Extension, setup

CHECKS = os.environ.get("EMGD_CHECKS") == "1"
EXT = "ext/emgd_ext"

# -ffp-contract=off: no fused multiply-add behind our back, so that filtered samples are the same bits on every machine.
FLAGS = ["-O3", "-std=gnu11", "-fvisibility=hidden", "-ffp-contract=off", "-Wall", "-Wextra", "-Wno-unused-parameter"]

# Cython module -> the C kernels that it wraps.
MODULES: dict[str, list[str]] = {
    "kernels": ["crc.c", "unpack.c"],
    "cascade": ["biquad.c"],
    "clock": [],
    "ring": ["ring.c"],
    "source": [],
    "decoder": [],
    "emg8": ["crc.c", "unpack.c"],
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
        extra_compile_args=[*FLAGS, "-UNDEBUG" if CHECKS else "-DNDEBUG"],
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
