"""A client of the library that a test stops and lets go again; at the end it says what it lost and got back."""

import json
import sys

import emgd_client

SECONDS = 9
RATE_HZ = 48_000


def main():
    with emgd_client.connect(name="slow", runtime_dir=sys.argv[1]) as client:
        blocks = client.blocks("amp0/raw")
        first = next(blocks)
        print("receiving", flush=True)
        expected = first.seq + first.count
        in_order, kept = True, [first]
        for block in blocks:
            in_order &= block.seq == expected
            expected = block.seq + block.count
            kept.append(block)
            if expected > first.seq + SECONDS * RATE_HZ:
                break
        tally = client.tally("amp0/raw")
        history = client.history("amp0/raw", first.seq, expected - first.seq)
        exact = b"".join(b.samples.tobytes() for b in history) == b"".join(b.samples.tobytes() for b in kept)
        told = {"dropped": tally.dropped, "backfilled": tally.backfilled, "in_order": in_order, "exact": exact}
        print(json.dumps(told), flush=True)
        sys.stdin.readline()  # stay known to the service until the test has looked


if __name__ == "__main__":
    main()
