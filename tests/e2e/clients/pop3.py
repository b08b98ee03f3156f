"""POP3."""

import poplib

TIMEOUT = 90


def visit(order):
    connection = poplib.POP3(order["host"], order["port"], timeout=TIMEOUT)
    try:
        connection.user(order["user"])
        connection.pass_(order["password"])
        return {"backend": find_backend(connection)}
    finally:
        connection.quit()


def find_backend(connection):
    """Looks for the message that the rig has put into every mailbox."""
    for number in range(1, connection.stat()[0] + 1):
        for line in connection.top(number, 0)[1]:
            if line.startswith(b"X-Backend: "):
                return line.split()[1].decode()
    raise RuntimeError("no message with X-Backend")


ORDERS = {"pop3.visit": visit}
