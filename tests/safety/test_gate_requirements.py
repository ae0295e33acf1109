"""The gate's requirements one by one, on the real profile `motor`: what goes up to a limit, and not beyond it."""

import pytest

from emgd.limits import build, site_limits
from emgd_ext.gate import Gate, names_in

MS = 1_000_000
DEVICE = {"current_ua": 100_000, "width_us": 1_000, "compliance_v": 400}
HOLDER, SITE, OPERATOR = 7, 5, 1


class Cart:
    """A gate with its surroundings: an amplifier that streams, a holder that renews, a device that reads back."""

    def __init__(self, **session):
        self.limits = build("motor", site_limits({}), DEVICE, session).limits
        self.gate = Gate(0)
        self.now_ns, self.nonce = MS, 1
        assert self.gate.set_limits(self.limits) == 0
        assert self.gate.connect(self.now_ns) == 0
        assert self.gate.take(HOLDER, self.nonce, self.now_ns) == 0
        assert self.gate.stream(self.now_ns, self.now_ns) == 0

    def arm(self, **changes):
        values = self.limits.values
        arming = {
            "holder": HOLDER,
            "operator_id": OPERATOR,
            "site": SITE,
            "load_ohm": 1_000,
            "compliance_v": values["compliance_v"],
            "device_current_ua": values["current_ua"],
            "device_width_us": values["width_us"],
            "isolated": True,
        }
        return names_in(self.gate.arm(self.now_ns, **(arming | changes)))

    def wait(self, ms):
        """Time passes in steps; the holder renews, the amplifier streams."""
        while ms > 0:
            step, ms = min(ms, 50), ms - 50
            self.now_ns += step * MS
            self.nonce += 1
            self.gate.renew(HOLDER, self.nonce, self.now_ns)
            self.gate.stream(self.now_ns, self.now_ns)

    def ask(self, current_ua=5_000, width_us=200, **changes):
        shot = {"holder": HOLDER, "site": SITE, "kind": 1, "current_ua": current_ua, "width_us": width_us}
        return names_in(self.gate.request(self.now_ns, **(shot | changes)))

    def shoot(self, current_ua=5_000, delivered_ua=None, delivered_us=200, dc_ua=0, site=SITE):
        """One shot; returns what stands against it, else what its readback brings."""
        refused = self.ask(current_ua, site=site)
        if refused:
            return refused
        verdict, pulse = self.gate.fire(self.now_ns)
        if verdict:
            return names_in(verdict)
        came_ua = current_ua if delivered_ua is None else delivered_ua
        readback = {
            "seq": pulse.seq,
            "current_ua": came_ua,
            "width_us": delivered_us,
            "load_ohm": 1_000,
            "dc_ua": dc_ua,
        }
        return names_in(self.gate.readback(self.now_ns, **readback))


@pytest.fixture
def cart():
    made = Cart()
    assert made.arm() == ()
    return made


@pytest.mark.requirement("REQ-005")
def test_the_mean_current_counts_the_pulse_about_to_go():
    """1 µA over 10 s are 10 µC: one shot of 1 µC and eight of 1.1 µC go, the next would be 10.9 µC."""
    cart = Cart(mean_current_ua=1)
    assert cart.arm() == ()
    assert cart.shoot(5_000) == ()
    for _ in range(8):
        cart.wait(1_000)
        assert cart.shoot(5_500) == ()
    cart.wait(1_000)
    assert cart.shoot(5_500) == ("mean_current_ua",)
    cart.wait(2_000)
    assert cart.shoot(5_500) == ()


@pytest.mark.requirement("REQ-005")
def test_pulses_at_a_site_are_counted_for_a_minute_whatever_happens_between():
    cart = Cart(site_pulses=3)
    assert cart.arm() == ()
    for _ in range(3):
        assert cart.shoot() == ()
        cart.wait(1_000)
    assert cart.shoot() == ("site_pulses",)
    cart.gate.disarm()
    assert cart.arm(site=6) == ()
    assert cart.shoot(site=6) == ()
    cart.wait(1_000)
    cart.gate.disarm()
    assert cart.arm() == ()
    assert cart.shoot() == ("site_pulses",)
    cart.wait(55_900)
    assert cart.shoot() == ("site_pulses",)
    cart.wait(100)
    assert cart.shoot() == ()


@pytest.mark.requirement("REQ-005")
def test_the_current_density_counts_the_pulse_about_to_go_where_the_area_is_known():
    """0.1 mA/cm² through 0.5 cm²: five pulses of 5 mA and 0.2 ms in 10 s have exactly that root mean square."""
    for area_mm2, sixth in ((50, ("rms_ua_per_cm2",)), (0, ())):
        cart = Cart(rms_ua_per_cm2=100)
        assert cart.arm(area_mm2=area_mm2) == ()
        for _ in range(5):
            assert cart.shoot() == ()
            cart.wait(1_000)
        assert cart.shoot() == sixth


@pytest.mark.requirement("REQ-007")
@pytest.mark.parametrize(
    ("load_ohm", "refused"),
    [(0, ("load",)), (-1, ("load",)), (10_000, ()), (10_001, ("impedance_ohm",)), (2**40, ("impedance_ohm",))],
)
def test_nothing_goes_into_electrodes_that_are_open_dry_or_unknown(cart, load_ohm, refused):
    cart.gate.load(load_ohm, cart.now_ns)
    assert cart.ask() == refused
    fresh = Cart()
    assert fresh.arm(load_ohm=load_ohm) == refused


@pytest.mark.requirement("REQ-007")
def test_nothing_goes_that_needs_more_than_nine_tenths_of_the_voltage():
    """5 mA into 9 kΩ are 45 V, nine tenths of 50 V."""
    cart = Cart()
    assert cart.arm(compliance_v=50, load_ohm=9_000) == ()
    assert cart.ask() == ()
    cart.gate.cancel()
    cart.gate.load(9_001, cart.now_ns)
    assert cart.ask() == ("headroom",)


@pytest.mark.requirement("REQ-011", "REQ-007")
def test_what_changes_between_request_and_pulse_stops_the_pulse(cart):
    assert cart.ask() == ()
    cart.gate.load(0, cart.now_ns)
    verdict, pulse = cart.gate.fire(cart.now_ns)
    assert (names_in(verdict), pulse) == (("load",), None)
    cart.gate.load(1_000, cart.now_ns)
    assert cart.gate.fire(cart.now_ns)[1] is None


@pytest.mark.requirement("REQ-012")
def test_a_pulse_that_is_late_is_given_up_and_never_sent_late(cart):
    assert cart.ask(begin_ns=cart.now_ns + 10 * MS) == ()
    cart.wait(111)
    verdict, pulse = cart.gate.fire(cart.now_ns)
    assert (names_in(verdict), pulse) == (("old",), None)
    assert cart.gate.snapshot()["left"] == 0


@pytest.mark.requirement("REQ-013", "REQ-025")
@pytest.mark.parametrize(
    ("change", "refused"),
    [
        ({"holder": 8}, ("holder",)),
        ({"holder": 0}, ("holder",)),
        ({"operator_id": 0}, ("operator",)),
        ({"site": 0}, ("site",)),
        ({"load_ohm": 0}, ("load",)),
        ({"isolated": False}, ("not_isolated",)),
        ({"device_current_ua": 80_001}, ("current_ua", "device_limits")),
        ({"device_width_us": 201}, ("width_us", "device_limits")),
        ({"compliance_v": 301}, ("compliance_v", "device_limits")),
        ({"device_current_ua": 0}, ("current_ua", "device_limits")),
        ({"compliance_v": -1}, ("compliance_v", "device_limits")),
    ],
)
def test_arming_needs_everything(change, refused):
    cart = Cart()
    assert cart.arm(**change) == refused
    assert cart.gate.state == "idle"
    assert "disarmed" in cart.ask()


@pytest.mark.requirement("REQ-013")
def test_arming_is_from_idle_only_and_needs_samples():
    cart = Cart()
    cart.now_ns += 101 * MS
    assert cart.arm() == ("stale",)
    cart.wait(1)
    assert cart.arm() == ()
    assert cart.arm() == ("busy",)
    cart.gate.stop()
    assert set(cart.arm()) == {"fault", "stopped"}
    assert "off" in names_in(Gate(0).arm(1, **dict.fromkeys(("holder", "operator_id", "site"), 1), **OWN))


OWN = {"load_ohm": 1, "compliance_v": 1, "device_current_ua": 1, "device_width_us": 1, "isolated": True}


@pytest.mark.requirement("REQ-014")
def test_one_holds_the_lease_and_renews_it_with_rising_numbers(cart):
    gate, now = cart.gate, cart.now_ns
    assert names_in(gate.take(8, 1, now)) == ("holder",)
    assert names_in(gate.renew(8, 9, now)) == ("holder",)
    assert names_in(gate.renew(HOLDER, cart.nonce, now)) == ("nonce",)
    assert names_in(gate.release(8)) == ("holder",)
    assert names_in(gate.take(0, 1, now)) == ("holder",)
    assert gate.renew(HOLDER, cart.nonce + 1, now) == 0
    assert gate.release(HOLDER) == 0
    assert gate.state == "idle"
    assert names_in(gate.renew(HOLDER, cart.nonce + 2, now)) == ("lease_ms",)
    assert gate.take(8, 1, now) == 0


@pytest.mark.requirement("REQ-016")
def test_a_minute_without_a_shot_disarms(cart):
    cart.wait(30_000)
    assert cart.shoot() == ()
    cart.wait(59_950)
    assert cart.gate.state == "armed"
    cart.wait(50)
    assert cart.gate.state == "idle"


@pytest.mark.requirement("REQ-017")
def test_no_strength_survives_disarming_a_fault_or_another_site(cart):
    def is_new():
        return cart.ask(5_001) == ("first_shot_ua",)

    assert Gate(0).state == "off"
    assert is_new()
    for drop in (cart.gate.disarm, lambda: cart.gate.release(HOLDER), lambda: cart.ask(site=6), cart.gate.stop):
        assert cart.shoot(5_000) == ()
        cart.wait(1_000)
        assert cart.ask(6_250) == ()
        cart.gate.cancel()
        drop()
        assert cart.gate.state in {"idle", "fault"}
        cart.gate.acknowledge(cart.now_ns, operator_id=OPERATOR)
        assert cart.gate.connect(cart.now_ns) == 0
        cart.gate.take(HOLDER, cart.nonce, cart.now_ns)
        assert cart.arm() == ()
        assert is_new()
    cart.gate.disconnect()
    assert cart.gate.state == "off"


@pytest.mark.requirement("REQ-018")
def test_no_pulse_while_the_amplifier_is_saturated_or_cannot_time_it(cart):
    cart.gate.stream(cart.now_ns, cart.now_ns, stamped=False)
    assert cart.ask() == ("unstamped",)
    for _ in range(21):
        assert cart.ask() in {("unstamped",), ()}
        cart.gate.cancel()
        cart.now_ns += 50 * MS
        cart.nonce += 1
        cart.gate.renew(HOLDER, cart.nonce, cart.now_ns)
        cart.gate.stream(cart.now_ns, cart.now_ns, saturated=True)
    assert cart.ask() == ()
    cart.gate.cancel()
    cart.now_ns += MS
    cart.gate.stream(cart.now_ns, cart.now_ns, saturated=True)
    assert cart.ask() == ("saturated",)


@pytest.mark.requirement("REQ-020")
@pytest.mark.parametrize("came", [{"delivered_ua": 6_001}, {"delivered_ua": 3_999}, {"delivered_us": 241}])
def test_a_pulse_that_is_far_off_is_a_fault(cart, came):
    assert "readback_far" in cart.shoot(**came)
    assert cart.gate.state == "fault"


@pytest.mark.requirement("REQ-020")
def test_a_mismatch_is_a_mark_and_the_second_among_five_a_fault(cart):
    assert cart.shoot(delivered_ua=4_250) == ("readback_current_percent",)
    cart.wait(1_000)
    assert cart.ask(4_251) == ("retry",)
    for _ in range(4):
        assert cart.shoot(4_250) == ()
        cart.wait(1_000)
    assert cart.shoot(4_250, delivered_us=215) == ("readback_width_percent",)
    cart.wait(1_000)
    assert set(cart.shoot(4_250, delivered_us=215)) == {"readback_width_percent", "readback_often"}
    assert cart.gate.state == "fault"


@pytest.mark.requirement("REQ-021", "REQ-022")
@pytest.mark.parametrize("dc_ua", [11, -11])
def test_direct_current_is_a_fault_that_stays(cart, dc_ua):
    assert cart.shoot(dc_ua=10) == ()
    cart.wait(1_000)
    assert cart.shoot(dc_ua=dc_ua) == ("dc_ua",)
    cart.wait(1_000)
    assert set(cart.ask()) >= {"fault", "dc_ua"}
    assert cart.gate.state == "fault"


@pytest.mark.requirement("REQ-023")
def test_a_machine_that_stood_still_is_disarmed():
    cart = Cart(lease_ms=1_000)
    assert cart.arm() == ()
    cart.now_ns += 501 * MS
    assert names_in(cart.gate.tick(cart.now_ns)) == ("time", "stale")
    assert cart.gate.state == "idle"
