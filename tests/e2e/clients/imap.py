"""IMAP: visits, and sessions that stay open."""

import imaplib
import re
import select
import time

TIMEOUT = 90
SESSIONS = {}


def login(order):
    connection = imaplib.IMAP4(order["host"], order["port"], timeout=TIMEOUT)
    try:
        connection.login(order["user"], order["password"])
    except Exception:
        connection.shutdown()
        raise
    return connection


def find_backend(connection):
    """Reads the header of the message that the rig has put into every mailbox."""
    connection.select(readonly=True)
    numbers = connection.search(None, "HEADER", "X-Backend", "backend")[1][0].split()
    fetched = connection.fetch(numbers[0].decode(), "(BODY.PEEK[HEADER])")[1][0][1]
    return re.search(rb"X-Backend: (\S+)", fetched).group(1).decode()


def visit(order):
    connection = login(order)
    try:
        return {"backend": find_backend(connection)}
    finally:
        connection.logout()


def open_session(order):
    SESSIONS[order["session"]] = login(order)


def whereami(order):
    return {"backend": find_backend(SESSIONS[order["session"]])}


def noop(order):
    SESSIONS[order["session"]].noop()


def idle(order):
    """imaplib of Python 3.11 has no IDLE: the lines are sent by hand."""
    connection = SESSIONS[order["session"]]
    connection.send(b"idle1 IDLE\r\n")
    line = connection.readline()
    if not line.startswith(b"+"):
        raise RuntimeError(f"IDLE: {line!r}")


def done(order):
    """Ends IDLE; lines that the server sent meanwhile are skipped."""
    connection = SESSIONS[order["session"]]
    connection.send(b"DONE\r\n")
    while True:
        line = connection.readline()
        if line.startswith(b"idle1 OK"):
            return
        if not line.startswith(b"*"):
            raise RuntimeError(f"DONE: {line!r}")


def wait_end(order):
    """Waits until the other side closes; what it says before is skipped."""
    connection = SESSIONS[order["session"]]
    connection.sock.settimeout(order["seconds"])
    while connection.readline():
        pass
    SESSIONS.pop(order["session"]).shutdown()


def wait_ends(order):
    """Waits until the other side has closed all of the sessions."""
    end = time.monotonic() + order["seconds"]
    waiting = {SESSIONS[name].sock: name for name in order["sessions"]}
    while waiting:
        ready = select.select(list(waiting), [], [], max(end - time.monotonic(), 0))[0]
        if not ready:
            raise RuntimeError(f"still open: {sorted(waiting.values())}")
        for sock in ready:
            if not sock.recv(4096):
                SESSIONS.pop(waiting.pop(sock)).shutdown()


def logout(order):
    SESSIONS.pop(order["session"]).logout()


ORDERS = {
    "imap.visit": visit,
    "imap.open": open_session,
    "imap.whereami": whereami,
    "imap.noop": noop,
    "imap.idle": idle,
    "imap.done": done,
    "imap.wait_end": wait_end,
    "imap.wait_ends": wait_ends,
    "imap.logout": logout,
}
