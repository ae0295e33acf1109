"""`emgctl audit verify FILE`: whether an audit log is whole. Reads the file; needs no service."""

import argparse

from emgd_client.emgctl import render
from emgd_wire.audit import Report, verify


def run(args: argparse.Namespace) -> int:
    """Check a log; 0 if it is whole, else 1."""
    report = verify(args.file, args.head)
    print(render.as_json(report) if args.json else "\n".join(_lines(args.file, report)))
    return 0 if report.damage is None else 1


def _lines(file: object, report: Report) -> list[str]:
    lines = [f"{file}: {report.records} records are whole", f"head {report.head}"]
    if report.tears:
        lines.append(f"torn lines, each told of by the record behind it: {report.tears}")
    if report.damage is None:
        return lines
    where = "after the last line" if report.bad_line is None else f"line {report.bad_line}"
    return [*lines, f"DAMAGED, {where}, {report.damage}: {report.text}"]
