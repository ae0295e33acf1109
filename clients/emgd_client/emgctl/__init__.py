"""emgctl: the service at the command line, for people (tables) and programs (`--json`).

| exit code | meaning |
|---|---|
| 0 | done |
| 1 | refused by the service, or failed; `impedance`: not all electrodes are good |
| 2 | wrong usage |
| 3 | the service is not running |
| 130 | ended with Ctrl-C |

Errors are one line on standard error; a stimulus that is refused has two more for each reason.
A reader that goes away (`emgctl tail | head`) ends the command silently.
"""

import os
import sys
from collections.abc import Sequence

from emgd_client.emgctl import render, stim
from emgd_client.emgctl.parser import build_parser
from emgd_client.errors import ClientError, RefusedError, ServiceNotRunningError
from emgd_wire.codec import WireError

EXIT_FAILED = 1
EXIT_NOT_RUNNING = 3
EXIT_INTERRUPTED = 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    args = build_parser().parse_args(arguments)
    try:
        code: int = args.run(args) or 0
        sys.stdout.flush()
    except ServiceNotRunningError as error:
        return _fail(str(error), EXIT_NOT_RUNNING)
    except WireError as error:
        return _fail(f"the service sent what its protocol does not allow: {error}", EXIT_FAILED)
    except BrokenPipeError:
        # Python flushes standard output once more at exit; let that go nowhere.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except (ClientError, OSError) as error:
        return _refuse(error, as_json=args.json) if isinstance(error, RefusedError) else _fail(str(error), EXIT_FAILED)
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    else:
        return code
    return 0  # nobody reads any more


def _refuse(error: RefusedError, *, as_json: bool) -> int:
    """A request that was refused; of a stimulus, with everything that stands against it."""
    if as_json and error.refusals:
        print(render.as_json({"refusals": error.refusals}))
    elif error.refusals:
        reasons = "1 reason" if len(error.refusals) == 1 else f"{len(error.refusals)} reasons"
        text = "\n".join([f"refused, for {reasons}:", *stim.refusal_lines(error.refusals)])
        return _fail(text, EXIT_FAILED)
    return _fail(str(error), EXIT_FAILED)


def _fail(text: str, code: int) -> int:
    print(f"emgctl: {text}", file=sys.stderr)
    return code
