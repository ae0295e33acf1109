"""An acknowledgement at the very moment at which the lease ends."""

import pytest
from stim_rig import MS, Rig

from emgd.stim_commands import Acknowledge


@pytest.mark.requirement("REQ-022")
def test_the_end_of_a_lease_is_no_reason_against_an_acknowledgement():
    rig = Rig().armed()
    rig.stimulation.stop("a test")
    rig.run(900)
    assert rig.state == "fault"
    rig.clock.ns += 200 * MS  # nobody but the acknowledgement has seen yet that the lease is over
    assert rig.ask(Acknowledge("mw"))["state"] == "idle"
