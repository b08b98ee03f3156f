"""LMTP: one transaction with any number of recipients."""

import smtplib

TIMEOUT = 90


def deliver(order):
    """Delivers one message. smtplib reads a single reply after DATA; LMTP has one per recipient."""
    connection = smtplib.LMTP(timeout=TIMEOUT, local_hostname="client.example.com")
    connection.connect(order["host"], order["port"])
    try:
        connection.ehlo_or_helo_if_needed()
        connection.mail("sender@example.com")
        replies = {user: connection.rcpt(user) for user in order["to"]}
        accepted = [user for user, (code, _) in replies.items() if code == 250]
        if accepted:
            code, text = connection.docmd("DATA")
            if code != 354:
                raise RuntimeError(f"DATA: {code} {text}")
            connection.send(f"Subject: {order['token']}\r\n\r\nHello.\r\n.\r\n".encode())
            replies.update({user: connection.getreply() for user in accepted})
        return {
            "codes": {user: code for user, (code, _) in replies.items()},
            "texts": {user: text.decode() for user, (_, text) in replies.items()},
        }
    finally:
        connection.close()


ORDERS = {"lmtp.deliver": deliver}
