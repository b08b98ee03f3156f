"""Submission: after the login, EHLO is answered by the backend, with its host name."""

import smtplib

TIMEOUT = 90


def visit(order):
    connection = smtplib.SMTP(timeout=TIMEOUT, local_hostname="client.example.com")
    connection.connect(order["host"], order["port"])
    try:
        connection.ehlo()
        connection.login(order["user"], order["password"])
        code, text = connection.ehlo()
        if code != 250:
            raise RuntimeError(f"EHLO: {code} {text}")
        return {"backend": text.decode().split("\n")[0]}
    finally:
        connection.close()


ORDERS = {"submission.visit": visit}
