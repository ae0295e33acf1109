"""What clients ask of the stimulus: each command judged by the gate, written into the audit log, and answered.

A refusal carries everything that stands against the request, in words. Runs in the stimulus thread.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from emgd.limits import PROFILES, LimitTable
from emgd.refusals import explain
from emgd.stim_commands import (
    Acknowledge,
    Arm,
    Command,
    Confirm,
    Disarm,
    Fire,
    Holder,
    Leave,
    Release,
    Renew,
    Status,
    Table,
    Take,
    as_map,
    number_of,
)
from emgd_drivers.stimulator import DeviceLimits, StimulatorInfo
from emgd_ext.gate import KIND_NAMES, bit, names_in
from emgd_wire.codec import WireError
from emgd_wire.kinds import ErrorCode

if TYPE_CHECKING:
    from emgd.stimulate import Stimulation

NAME: Final = "stim0"
"""Name of the one stimulator."""


class Desk:
    """Where commands are obeyed. Knows who holds the lease, and what is armed."""

    def __init__(self, stimulation: "Stimulation") -> None:
        self.table: LimitTable | None = None
        self.shots = 0
        self.arming = False
        self._stimulation = stimulation
        self._hands = stimulation.hands
        self._audit = stimulation.hands.audit
        self._gate = stimulation.gate
        self._clock = stimulation.clock
        self._holder: Holder | None = None
        self._armed_for: Arm | None = None

    def obey(self, holder: Holder, command: Command) -> dict[str, Any]:
        """Its result; WireError when it is refused, DeviceError or AuditError when it went wrong."""
        match command:
            case Status() | Table():
                result = self.status(holder) if isinstance(command, Status) else self.limits_map()
            case Take(nonce) | Renew(nonce):
                result = self._lease(holder, command, nonce)
            case Release() | Leave():
                result = self._release(holder, command)
            case Arm():
                result = self._arm(holder, command)
            case Confirm(current_ua):
                verdict = self._gate.confirm(holder.number, current_ua, self._clock())
                result = self._judge(holder, command, verdict, {"current_ua": current_ua})
            case Fire():
                result = self._fire(holder, command)
            case Disarm():
                self._gate.disarm()
                result = self._judge(holder, command, 0)
            case Acknowledge(operator):
                result = self._acknowledge(holder, command, operator)
        return result

    # --- commands

    def _lease(self, holder: Holder, command: Take | Renew, nonce: int) -> dict[str, Any]:
        if isinstance(command, Take):
            verdict = self._gate.take(holder.number, nonce, self._clock())
        else:
            verdict = self._gate.renew(holder.number, nonce, self._clock())
        # A renewal that is granted says nothing new, three times a second.
        if verdict or isinstance(command, Take):
            self._judge(holder, command, verdict)
            self._holder = holder
        limits = self.table.values if self.table else {}
        return {
            "nonce": nonce,
            "lease_ms": limits.get("lease_ms"),
            "lease_until_ns": self._gate.snapshot()["lease_until_ns"],
        }

    def _release(self, holder: Holder, command: Release | Leave) -> dict[str, Any]:
        if isinstance(command, Leave) and self._gate.snapshot()["holder"] != holder.number:
            return {}
        return self._judge(holder, command, self._gate.release(holder.number))

    def _arm(self, holder: Holder, arm: Arm) -> dict[str, Any]:
        """Judge, set the device up, judge again with what it says, and only then enable its output."""
        info = self._stimulation.present().info
        self._check(info, arm)
        if why := self._stands_against_preparing(holder):
            self._judge(holder, arm, why)
        if not self._hands.interlock.arm():
            raise WireError(ErrorCode.INTERLOCK, "an impedance check runs", allowed="when it is over")
        self.arming = True
        try:
            return self._prepare_and_arm(holder, arm, info)
        finally:
            self.arming = False

    def _prepare_and_arm(self, holder: Holder, arm: Arm, info: StimulatorInfo) -> dict[str, Any]:
        stimulation, gate = self._stimulation, self._gate
        self._audit.check()
        table = self._hands.build(arm.profile, device_map(info), arm.limits)
        self._audit.record("limits", **table.as_map())
        if why := gate.set_limits(table.limits):
            self._judge(holder, arm, why)
        self.table = table
        own, load_ohm = stimulation.prepare(device_limits(table.values, info))
        self._audit.sync()
        stimulation.look()  # all this takes its time, and samples must not look old for it
        load_ohm = arm.load_ohm if load_ohm is None else load_ohm
        verdict = gate.arm(
            self._clock(),
            holder=holder.number,
            operator_id=number_of(arm.operator),
            site=arm.site.number,
            load_ohm=load_ohm or 0,
            compliance_v=own.compliance_v,
            device_current_ua=own.current_ua,
            device_width_us=own.width_us,
            area_mm2=arm.area_mm2,
            isolated=info.isolated and self._hands.watch.isolated,
        )
        self._judge(holder, arm, verdict, {"impedance_ohm": load_ohm or 0, "compliance_v": own.compliance_v})
        self._armed_for = arm
        stimulation.enable()
        return {
            "site": arm.site.id,
            "load_ohm": load_ohm,
            "lease_until_ns": gate.snapshot()["lease_until_ns"],
            "limits": table.as_map(),
            "warnings": list(gate.warnings()),
        }

    def _check(self, info: StimulatorInfo, arm: Arm) -> None:
        """What no gate needs to be asked for."""
        if not info.reads_back:
            raise WireError(ErrorCode.NOT_OFFERED, f"{info.serial} does not tell what it delivers", field="verb")
        if info.measures_load == (arm.load_ohm is not None):
            said = "measures the load by itself" if info.measures_load else "cannot measure the load"
            allowed = "absent" if info.measures_load else "the measured resistance in ohm"
            raise WireError(ErrorCode.BAD_VALUE, f"{info.serial} {said}", field="args.load_ohm", allowed=allowed)
        sentence = PROFILES[arm.profile].acknowledge if arm.profile in PROFILES else ""
        if sentence and not arm.acknowledged:
            text = f"profile {arm.profile} needs the operator's word for: {sentence}"
            raise WireError(ErrorCode.BAD_VALUE, text, field="args.acknowledged", allowed="true")

    def _stands_against_preparing(self, holder: Holder) -> int:
        """What the gate would say whatever the device is, asked before the device is touched."""
        state, verdict = self._gate.state, 0
        if state == "fault":
            verdict = bit("fault") | self._gate.snapshot()["faults"]
        elif state != "idle":
            verdict = bit("off") if state == "off" else bit("busy")
        return verdict if self._gate.snapshot()["holder"] == holder.number else verdict | bit("holder")

    def _fire(self, holder: Holder, fire: Fire) -> dict[str, Any]:
        gate = self._gate
        step_ua = self._stimulation.present().info.current_step_ua
        if fire.current_ua % step_ua:
            allowed = f"a multiple of {step_ua}"
            text = f"the stimulator cannot give {fire.current_ua} µA"
            raise WireError(ErrorCode.BAD_VALUE, text, field="args.current_ua", allowed=allowed)
        shot = {
            "holder": holder.number,
            "site": int(fire.site, 16),
            "kind": KIND_NAMES.index(fire.kind),
            "current_ua": fire.current_ua,
            "width_us": fire.width_us,
            "count": fire.count,
            "interval_us": fire.interval_us,
            "asked_ns": fire.asked_ns,
            "begin_ns": fire.begin_ns,
        }
        known = gate.snapshot()
        figures = {
            **gate.figures(**shot),
            "compliance_set_v": known["compliance_v"],
            "retry_ua": known["retry_ua"],
        }
        verdict = gate.request(self._clock(), **shot)
        self._stimulation.follow()
        self._judge(holder, fire, verdict, figures)
        self.shots += 1
        return {"shot": self.shots, "first_pulse": known["next_seq"], "begin_ns": gate.snapshot()["due_ns"]}

    def _acknowledge(self, holder: Holder, command: Acknowledge, operator: str) -> dict[str, Any]:
        """The device is reset first: a fault that it still has cannot be acknowledged away."""
        if self._gate.state != "fault":
            return self._judge(holder, command, 0)
        self._stimulation.recover()
        self._gate.tick(self._clock())  # a lease that has just ended is no reason against it
        present = 0 if self._stimulation.is_there else bit("device")
        verdict = self._gate.acknowledge(self._clock(), operator_id=number_of(operator), present=present)
        self._judge(holder, command, verdict)
        self._stimulation.recovered()
        return {"state": self._gate.state}

    def _judge(
        self, holder: Holder, command: Command, verdict: int, figures: Mapping[str, int] | None = None
    ) -> dict[str, Any]:
        """Log a verdict; WireError when it is no yes, else the plainest of results."""
        self._stimulation.follow()
        self._audit.record("request", holder=holder.name, **as_map(command), verdict=list(names_in(verdict)))
        if verdict:
            self._stimulation.counts["refused"] += 1
            refusals = explain(verdict, figures, self.table)
            text = "; ".join(refusal.text for refusal in refusals)
            raise WireError(ErrorCode.REFUSED, text, refusals=[refusal.as_map() for refusal in refusals])
        return {"state": self._gate.state}

    # --- what is so

    def quiet_table(self) -> LimitTable:
        """The limits while nothing is armed: those of the last arming, or of the first profile. WireError."""
        if self.table is None:
            info = self._stimulation.present().info
            self.table = self._hands.build(self._hands.profile, device_map(info), {})
        return self.table

    def shot_map(self) -> dict[str, Any]:
        """What belongs to each pulse of the present shot."""
        arm = self._armed_for
        return {
            "shot": self.shots,
            "site": arm.site.as_map() if arm else None,
            "profile": arm.profile if arm else None,
            "operator": arm.operator if arm else None,
        }

    def limits_map(self) -> dict[str, Any]:
        """The result of `stim_limits`."""
        return {"limits": self.table.as_map() if self.table else None}

    def state_map(self) -> dict[str, Any]:
        """The payload of `stim0/state`, docs/protocol.md."""
        stimulation, gate = self._stimulation, self._gate
        known = gate.snapshot()
        why = stimulation.ended | known["faults"] | known["dropped"]
        words = [refusal.text for refusal in explain(why, None, self.table)]
        arm = self._armed_for if stimulation.armed else None
        if not known["holder"]:
            self._holder = None
        return {
            "device": NAME,
            "state": known["state"],
            "text": "; ".join([stimulation.text, *words]),
            "reasons": list(names_in(why)),
            "holder": self._holder.name if self._holder else None,
            "profile": arm.profile if arm else None,
            "site": arm.site.as_map() if arm else None,
            "operator": arm.operator if arm else None,
            "limits": self.table.digest if self.table else None,
        }

    def status(self, holder: Holder) -> dict[str, Any]:
        """The result of `stim_status`."""
        stimulation, known = self._stimulation, self._gate.snapshot()
        info = stimulation.info
        return {
            **self.state_map(),
            "there": stimulation.is_there,
            "driver": info.driver if info else None,
            "serial": info.serial if info else None,
            "firmware": info.firmware if info else None,
            "simulated": info.simulated if info else None,
            "isolated": info.isolated if info else None,
            "has_watchdog": info.has_watchdog if info else None,
            "has_stop": info.has_stop if info else None,
            "has_trigger": info.has_trigger if info else None,
            "measures_load": info.measures_load if info else None,
            "notes": list(info.notes) if info else [],
            "yours": bool(known["holder"]) and known["holder"] == holder.number,
            "lease_until_ns": known["lease_until_ns"] if known["holder"] else None,
            "load_ohm": known["load_ohm"],
            "last_ua": known["last_ua"],
            "confirmed_ua": known["confirmed_ua"],
            "pulses_left": known["left"],
            "warnings": list(self._gate.warnings()),
            "counts": dict(stimulation.counts),
            "scheduling": stimulation.scheduling,
        }


def device_map(info: StimulatorInfo) -> dict[str, int]:
    """What a device can do at most, as a layer of limits."""
    return {"current_ua": info.most_current_ua, "width_us": info.most_width_us, "compliance_v": info.most_compliance_v}


def device_limits(values: Mapping[str, int], info: StimulatorInfo) -> DeviceLimits:
    """What a device is to hold by itself: the limits in force, as far as it has registers for them."""
    return DeviceLimits(
        current_ua=values["current_ua"] // info.current_step_ua * info.current_step_ua,
        width_us=values["width_us"],
        compliance_v=values["compliance_v"],
        interval_us=min(values["interval_us"], values["pair_interval_us"]),
        mean_ua=values["mean_current_ua"],
    )
