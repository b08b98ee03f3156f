"""ManageSieve: just enough to log in and to ask for the server's name."""

import base64
import re
import socket

TIMEOUT = 90


def visit(order):
    with socket.create_connection((order["host"], order["port"]), timeout=TIMEOUT) as connection:
        stream = connection.makefile("rwb")
        read_response(stream)
        secret = f"\0{order['user']}\0{order['password']}".encode()
        command(stream, f'AUTHENTICATE "PLAIN" "{base64.b64encode(secret).decode()}"')
        text = command(stream, "CAPABILITY")
        command(stream, "LOGOUT")
        return {"backend": re.search(r'"IMPLEMENTATION" "([^"]*)"', text).group(1)}


def command(stream, line):
    stream.write(f"{line}\r\n".encode())
    stream.flush()
    return read_response(stream)


def read_response(stream):
    """All lines up to and with the one that ends a response; only OK is good."""
    text = ""
    while True:
        line = stream.readline().decode()
        text += line
        word = line.split(" ")[0].strip().upper()
        if word == "OK":
            return text
        if word in ("NO", "BYE", ""):
            raise RuntimeError(f"ManageSieve: {line.strip() or 'closed'}")


ORDERS = {"sieve.visit": visit}
