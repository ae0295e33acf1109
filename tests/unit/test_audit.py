"""The audit log: what is recorded stays, the chain goes on, and any damage is found."""

import errno
import json
import os
import re
import signal
import subprocess
import sys
import threading

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emgd import audit
from emgd.audit import Audit, AuditError, Damage, verify
from emgd_client.emgctl import main
from emgd_wire.audit import START, pack, parse, tear_fields
from paths import ROOT

KINDS = ("request", "verdict", "pulse", "state")


def written(path, count, session="s"):
    log = Audit.open(path, session)
    for number in range(count):
        log.record(KINDS[number % 4], number=number, text=f"ä\n\"{number}'")
    log.close()
    return path


def lines_of(path):
    return path.read_bytes().splitlines(keepends=True)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The lines of a log of two runs, the first of which was torn."""
    path = tmp_path_factory.mktemp("audit") / "audit.jsonl"
    written(path, 6)
    with path.open("ab") as file:
        file.write(b'{"seq":8,"mono_ns":123')
    written(path, 6)
    report = verify(path)
    assert (report.damage, report.tears, report.records) == (None, 1, 17)
    return lines_of(path)


# --- writing


def test_a_record_has_both_clocks_boot_session_and_the_chain(tmp_path):
    log = Audit.open(tmp_path / "a.jsonl", "f00", monotonic_ns=lambda: 5, wall_ns=lambda: 1_700_000_000_123_456_789)
    assert log.record("pulse", current_ua=5_000, width_us=200) == 1
    assert log.head == (2, parse(lines_of(log.path)[-1][:-1]).digest)
    first, second = (json.loads(line) for line in lines_of(log.path))
    assert (first["seq"], first["kind"], first["prev"]) == (0, "opened", START)
    assert second["prev"] == first["digest"]
    assert re.fullmatch("[0-9a-f-]{36}", second["boot"])
    del second["prev"], second["digest"], second["boot"]
    assert second == {
        "seq": 1,
        "mono_ns": 5,
        "utc": "2023-11-14T22:13:20.123456Z",
        "session": "f00",
        "kind": "pulse",
        "fields": {"current_ua": 5_000, "width_us": 200},
    }
    assert log.path.stat().st_mode & 0o777 == 0o640
    log.close()
    log.close()


@pytest.mark.requirement("REQ-073")
def test_the_chain_goes_on_over_restarts(tmp_path):
    path = written(written(tmp_path / "sub/a.jsonl", 3, "one"), 2, "two")
    records = [json.loads(line) for line in lines_of(path)]
    assert [record["seq"] for record in records] == list(range(9))
    assert [record["kind"] for record in records if record["session"] == "two"][::3] == ["opened", "closed"]
    assert verify(path) == audit.Report(9, records[-1]["digest"])


@pytest.mark.requirement("REQ-073")
def test_what_was_recorded_outlives_the_process(tmp_path):
    path = tmp_path / "a.jsonl"
    program = (
        "import pathlib, signal, os\nfrom emgd.audit import Audit\n"
        f"log = Audit.open(pathlib.Path({str(path)!r}))\nlog.record('pulse', number=1)\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    ended = subprocess.run([sys.executable, "-c", program], check=False, timeout=60)
    assert ended.returncode == -signal.SIGKILL
    assert [json.loads(line)["kind"] for line in lines_of(path)] == ["opened", "pulse"]
    assert verify(path).records == 2


def test_threads_may_record_together(tmp_path):
    log = Audit.open(tmp_path / "a.jsonl")
    threads = [threading.Thread(target=lambda: [log.record("state", n=n) for n in range(50)]) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    log.close()
    assert verify(log.path).records == 202


@pytest.mark.requirement("REQ-073")
def test_a_torn_line_is_kept_and_told_of(tmp_path, whole):
    told = [json.loads(line) for line in whole if b'"recovered"' in line]
    assert [record["fields"] for record in told] == [tear_fields(b'{"seq":8,"mono_ns":123')]


def test_there_is_one_writer(tmp_path):
    log = Audit.open(tmp_path / "a.jsonl")
    with pytest.raises(AuditError, match="another service writes this audit log"):
        Audit.open(log.path)
    log.close()
    Audit.open(log.path).close()


def test_a_damaged_end_is_not_written_on(tmp_path):
    path = written(tmp_path / "a.jsonl", 2)
    lines = lines_of(path)
    path.write_bytes(b"".join(lines[:-1]) + lines[-1].replace(b"closed", b"cloSed"))
    with pytest.raises(AuditError, match=r"the last record is damaged, .* move it away"):
        Audit.open(path)
    path.write_bytes(b"x" * 200_000)
    with pytest.raises(AuditError, match="the last record is damaged"):
        Audit.open(path)


@pytest.mark.parametrize("place", ["missing/dir", "link", "folder"])
def test_a_file_that_cannot_be_written_is_an_error_that_names_it(tmp_path, place):
    (tmp_path / "missing").write_text("not a folder", encoding="utf-8")
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "folder").mkdir()
    with pytest.raises(AuditError, match=re.escape(str(tmp_path / place))):
        Audit.open(tmp_path / place)


@pytest.mark.parametrize("fault", ["full", "part"])
def test_a_record_that_could_not_be_written_stops_all_later_ones(tmp_path, monkeypatch, fault):
    log = Audit.open(tmp_path / "a.jsonl")
    real = os.write

    def write(fd, data):
        if fault == "full":
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(fd, data[: len(data) // 2])

    with monkeypatch.context() as patched:
        patched.setattr(audit.os, "write", write)
        with pytest.raises(AuditError, match=r"free the disk, then restart the service"):
            log.record("pulse", number=1)
    for call in (lambda: log.record("pulse", number=2), log.check):
        with pytest.raises(AuditError, match="free the disk"):
            call()
    log.close()
    again = Audit.open(log.path)
    again.record("pulse", number=3)
    again.close()
    assert (verify(log.path).damage, verify(log.path).tears) == (None, int(fault == "part"))


def test_a_disk_that_lost_what_was_written_stops_all_later_records(tmp_path, monkeypatch):
    log = Audit.open(tmp_path / "a.jsonl")

    def fdatasync(fd):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(audit.os, "fdatasync", fdatasync)
    with pytest.raises(AuditError, match="the disk did not take the audit log"):
        log.sync()
    with pytest.raises(AuditError, match="the disk did not take the audit log"):
        log.record("pulse")
    log.close()


def test_arming_is_refused_where_the_disk_is_nearly_full(tmp_path, monkeypatch):
    log = Audit.open(tmp_path / "a.jsonl")
    log.check()
    found = os.fstatvfs(log._fd)
    low = os.statvfs_result([*found[:4], (audit.LEAST_FREE - 1) // found.f_frsize, *found[5:]])
    monkeypatch.setattr(audit.os, "fstatvfs", lambda _: low)
    with pytest.raises(AuditError, match="15 MiB are free on its disk, 16 are needed"):
        log.check()
    log.close()
    with pytest.raises(AuditError, match="is closed"):
        log.check()


@pytest.mark.parametrize("call", ["fsync", "fdatasync", "pread", "write"])
def test_a_log_that_cannot_be_opened_in_full_is_not_opened(tmp_path, monkeypatch, call):
    def fails(*_):
        raise OSError(errno.EIO, "Input/output error")

    path = tmp_path / "a.jsonl"
    with monkeypatch.context() as patched:
        patched.setattr(audit.os, call, fails)
        with pytest.raises(AuditError, match=re.escape(f"{path}: Input/output error")):
            Audit.open(path)
    Audit.open(path).close()
    assert verify(path).damage is None


def test_a_disk_that_cannot_say_what_is_free_is_no_disk_to_arm_on(tmp_path, monkeypatch):
    def fails(_):
        raise OSError(errno.EIO, "Input/output error")

    log = Audit.open(tmp_path / "a.jsonl")
    monkeypatch.setattr(audit.os, "fstatvfs", fails)
    with pytest.raises(AuditError, match="Input/output error"):
        log.check()
    log.close()


@pytest.mark.parametrize("fields", [{"x": object()}, {"x": float("nan")}, {"x": "x" * 70_000}])
def test_what_cannot_be_written_down_is_an_error_and_the_log_goes_on(tmp_path, fields):
    log = Audit.open(tmp_path / "a.jsonl")
    with pytest.raises(AuditError, match="a record of kind 'pulse'"):
        log.record("pulse", **fields)
    assert log.record("pulse", number=1) == 1
    log.close()
    assert verify(log.path).records == 3


def test_the_place_is_the_services_state_directory(monkeypatch, tmp_path):
    monkeypatch.setenv("STATE_DIRECTORY", "/var/lib/emgd")
    assert str(audit.default_path()) == "/var/lib/emgd/audit.jsonl"
    monkeypatch.delenv("STATE_DIRECTORY")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    assert audit.default_path() == tmp_path / "emgd/audit.jsonl"
    monkeypatch.delenv("XDG_STATE_HOME")
    assert audit.default_path().parts[-4:] == (".local", "state", "emgd", "audit.jsonl")


# --- what verify finds


def found(tmp_path, lines, head=None):
    path = tmp_path / "damaged.jsonl"
    path.write_bytes(b"".join(lines))
    return verify(path, head)


@pytest.mark.requirement("REQ-072")
@settings(max_examples=300)
@given(data=st.data())
def test_any_byte_that_was_changed_is_found(tmp_path_factory, whole, data):
    blob = b"".join(whole)
    at = data.draw(st.integers(0, len(blob) - 1))
    changed = data.draw(st.integers(0, 255).filter(lambda value: value != blob[at]))
    report = found(tmp_path_factory.getbasetemp(), [blob[:at], bytes([changed]), blob[at + 1 :]])
    assert report.damage is not None
    assert report.bad_line is not None
    assert report.bad_line <= blob[:at].count(b"\n") + 1


@pytest.mark.requirement("REQ-072")
@given(data=st.data())
def test_any_line_that_was_taken_out_doubled_or_moved_is_found(tmp_path_factory, whole, data):
    at = data.draw(st.integers(0, len(whole) - 1))
    to = data.draw(st.integers(0, len(whole) - 1))
    where = tmp_path_factory.getbasetemp()
    if at < len(whole) - 1:
        assert found(where, whole[:at] + whole[at + 1 :]).damage in {Damage.REMOVED, Damage.ALTERED}
    doubled = found(where, [*whole[:to], whole[at], *whole[to:]])
    assert doubled.damage is not None
    rest = whole[:at] + whole[at + 1 :]
    moved = [*rest[:to], whole[at], *rest[to:]]
    if moved != whole:
        assert found(where, moved).damage is not None
    if at < to:
        swapped = [*whole[:at], whole[to], *whole[at + 1 : to], whole[at], *whole[to + 1 :]]
        assert found(where, swapped).damage is not None


@given(data=st.data())
def test_a_log_that_was_cut_is_found_by_a_digest_that_was_kept(tmp_path_factory, whole, data):
    head = parse(whole[-1][:-1]).digest
    where = tmp_path_factory.getbasetemp()
    assert found(where, whole, head).damage is None
    cut = data.draw(st.integers(0, len(whole) - 1))
    report = found(where, whole[:cut], head)
    assert report.damage in {Damage.CUT, Damage.ALTERED}
    blob = b"".join(whole)
    torn = found(where, [blob[: data.draw(st.integers(0, len(blob) - 1))]], head)
    assert torn.damage is not None


@pytest.mark.parametrize(
    ("change", "damage", "line"),
    [
        (lambda lines: lines[:2] + lines[3:], Damage.REMOVED, 3),
        (lambda lines: lines[1:], Damage.REMOVED, 1),
        (lambda lines: lines[:3] + lines[2:], Damage.INSERTED, 4),
        (lambda lines: [lines[0], lines[2], lines[1], *lines[3:]], Damage.MOVED, 2),
        (lambda lines: [*lines[:2], lines[2].replace(b"number", b"Number"), *lines[3:]], Damage.ALTERED, 3),
        (lambda lines: [*lines[:2], b"\n", *lines[2:]], Damage.ALTERED, 3),
        (lambda lines: [*lines[:-1], lines[-1][:-5]], Damage.TORN, 8),
        (lambda lines: [*lines, b"x" * 100_000], Damage.ALTERED, 9),
        (lambda lines: [*lines, pack({"seq": 8, "prev": START, "kind": "forged"})[0]], Damage.ALTERED, 9),
        (lambda lines: [*lines, pack({"seq": "8", "prev": START, "kind": "forged"})[0]], Damage.ALTERED, 9),
        (lambda lines: [*lines, pack({"kind": "forged"})[0]], Damage.ALTERED, 9),
    ],
)
def test_the_report_names_line_and_damage(tmp_path, change, damage, line):
    lines = lines_of(written(tmp_path / "a.jsonl", 6))
    report = found(tmp_path, change(lines))
    assert (report.damage, report.bad_line) == (damage, line)
    assert report.records == line - 1
    assert report.text


def test_a_torn_line_that_was_taken_out_afterwards_is_found(tmp_path, whole):
    (torn,) = [number for number, line in enumerate(whole) if parse(line[:-1]) is None]
    report = found(tmp_path, whole[:torn] + whole[torn + 1 :])
    assert (report.damage, report.bad_line) == (Damage.REMOVED, torn + 1)


def test_emgctl_verifies_without_a_service(tmp_path, capsys):
    path = written(tmp_path / "a.jsonl", 3)
    head = parse(lines_of(path)[-1][:-1]).digest
    assert main(["audit", "verify", str(path), "--head", head]) == 0
    assert capsys.readouterr().out.splitlines() == [f"{path}: 5 records are whole", f"head {head}"]
    assert main(["audit", "verify", str(path), "--head", "0" * 63 + "1"]) == 1
    assert "DAMAGED, after the last line, cut: the digest that was kept" in capsys.readouterr().out
    with path.open("ab") as file:
        file.write(b'{"seq":')
    written(path, 0)
    assert main(["audit", "verify", str(path)]) == 0
    assert capsys.readouterr().out.splitlines()[2] == "torn lines, each told of by the record behind it: 1"
    path.write_bytes(b"".join(lines_of(path)[1:]))
    assert main(["audit", "verify", str(path), "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["damage"] == "removed"
    assert main(["audit", "verify", str(tmp_path / "no")]) == 1
    assert "No such file" in capsys.readouterr().err


@pytest.mark.requirement("REQ-072")
def test_a_stranger_verifies_it_with_the_documented_lines(tmp_path):
    document = (ROOT / "docs/safety/audit.md").read_text(encoding="utf-8")
    program = document.split("```python\n")[1].split("```")[0]
    path = written(tmp_path / "a.jsonl", 5)

    def stranger():
        command = [sys.executable, "-c", program, str(path)]
        return subprocess.run(command, check=False, timeout=60, capture_output=True, text=True)

    assert stranger().stdout == f"whole, head {verify(path).head}\n"
    path.write_bytes(path.read_bytes().replace(b'"number":2', b'"number":3'))
    assert stranger().stderr == "line 4 is damaged\n"


def test_every_damage_is_documented():
    document = (ROOT / "docs/safety/audit.md").read_text(encoding="utf-8")
    assert re.findall(r"^\| `(\w+)` \| \w", document.split("## Is it whole?")[1], re.MULTILINE) == list(Damage)
