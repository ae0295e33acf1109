"""docs/devices/emg8.md, section 4, names every counter of the USB transport and nothing else."""

import re

from paths import ROOT


def test_every_counter_is_in_the_document_and_no_other():
    section = (ROOT / "docs" / "devices" / "emg8.md").read_text().partition("## 4. ")[2]
    rows = [line.split("|")[1] for line in section.splitlines() if line.startswith("| `")]
    named = {name for row in rows for name in re.findall(r"`(\w+)`", row)}
    header = (ROOT / "ext" / "emgd_ext" / "c" / "bulk.h").read_text()
    counters = set(re.findall(r"^    uint64_t (\w+);.*$", header.partition("} emgd_bulk_counters;")[0], re.MULTILINE))
    assert len(counters) == 13
    assert named == counters | {"transfers", "transfer_bytes", "in_flight"}
