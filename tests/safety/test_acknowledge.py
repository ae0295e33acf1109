"""An acknowledgement at the very moment at which the lease ends."""

import pytest
from stim_rig import MS, Rig

from emgd.stim_commands import Acknowledge


@pytest.mark.requirement("REQ-022")
def test_a_lease_that_ends_while_the_device_is_reset_is_no_reason_against_an_acknowledgement(monkeypatch):
    rig = Rig().armed()
    until_ns = rig.stimulation.gate.snapshot()["lease_until_ns"]
    rig.stimulation.stop("a test")
    rig.run((until_ns - rig.clock.ns) // MS - 10)
    reset = rig.device.reset

    def slow_reset():
        rig.clock.ns += 20 * MS
        reset()

    monkeypatch.setattr(rig.device, "reset", slow_reset)
    assert rig.clock.ns < until_ns
    assert rig.ask(Acknowledge("mw"))["state"] == "idle"
    assert rig.clock.ns > until_ns
