"""The gate under test: the one that was installed, or a variant (scripts/safety/variant.py)."""

import importlib.util
import os
import sys

import pytest

VARIANT = os.environ.get("EMGD_GATE_VARIANT")
if VARIANT:
    spec = importlib.util.spec_from_file_location("emgd_ext.gate", VARIANT)
    assert spec
    assert spec.loader
    sys.modules["emgd_ext.gate"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(sys.modules["emgd_ext.gate"])

pytest.register_assert_rewrite("gate_world", "gate_commands")
