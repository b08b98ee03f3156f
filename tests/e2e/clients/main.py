"""A mail client that is driven from outside.

Reads one order per line from standard input, a JSON object, and answers each with one line, a JSON
object that has "ok" and says how many "seconds" it took. Orders: imap.visit, pop3.visit, sieve.visit, submission.visit (log in, find out
which backend this is, leave), lmtp.deliver, and sessions that stay open: imap.open, then imap.noop,
imap.whereami, imap.idle, imap.done, imap.wait_end, imap.wait_ends, imap.logout by the session's name.
"""

import json
import sys
import time

import imap
import lmtp
import pop3
import sieve
import submission

ORDERS = {
    **imap.ORDERS,
    **lmtp.ORDERS,
    **pop3.ORDERS,
    **sieve.ORDERS,
    **submission.ORDERS,
}


def answer(order):
    """What the servers say goes back as an answer; only a mistake in the order itself raises."""
    action = ORDERS[order["do"]]
    start = time.monotonic()
    try:
        said = {"ok": True, **(action(order) or {})}
    except Exception as error:  # pylint: disable=broad-except
        said = {"ok": False, "error": f"{type(error).__name__}: {error}"}
    return {**said, "seconds": time.monotonic() - start}


def main():
    for line in sys.stdin:
        print(json.dumps(answer(json.loads(line))), flush=True)


if __name__ == "__main__":
    main()
