#!/usr/bin/env python3
"""How long a Homing director takes that joins a ring with many users, and what clients notice of it, its own
and its neighbours'.

Two directors share the users, Homings or Dovecots; then a third starts, a Homing. Reported are the time from
its start to its first answered login and until it knows all users, and the latency of logins at a neighbour at
a fixed rate in three equal stretches of time: before, while the third one joins, after; and at the third one
from its first answer on. Memory is the most that the third one had, and what a neighbour had before and at
most.

    cargo build --release --workspace
    benches/join.py --homing target/release/homing [--users 10000000 --seconds 30] [--dovecot | --tls]

Dovecot needs root and /usr/sbin/dovecot (Debian: dovecot-core 2.3), --tls openssl. Only processes that were
started here are ended.
"""

import argparse
import json
import os
import pathlib
import re
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time

import ring as rings
import side_by_side as single

LIMIT = 300  # seconds until the joining director must know all users
NOT_YET = 0.5  # seconds of load at the neighbour before the third one starts
JOINER_RATE = 1000  # logins a second at the third one


class Auth(threading.Thread):
    """Answers the few logins of this script at the joining director."""

    def __init__(self, path):
        super().__init__(daemon=True)
        self.path = path
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(str(path))
        self.listener.listen()
        self.start()

    def stop(self):
        """Another one may listen there; connections stay."""
        os.unlink(self.path)

    def run(self):
        while True:
            client = self.listener.accept()[0]
            threading.Thread(target=self.serve, args=(client,), daemon=True).start()

    @staticmethod
    def serve(client):
        client.sendall(b"VERSION\t1\t2\nMECH\tPLAIN\tplaintext\nSPID\t1\nCUID\t1\nCOOKIE\t0\nDONE\n")
        text = b""
        while True:
            data = client.recv(65536)
            if not data:
                return
            text += data
            while b"\n" in text:
                line, text = text.split(b"\n", 1)
                if line.startswith(b"AUTH\t"):
                    number, resp = line.split(b"\t")[1], line.rsplit(b"resp=", 1)[1]
                    client.sendall(b"OK\t" + number + b"\tuser=" + resp + b"\tproxy=y\n")


def first_login(path, started):
    """Seconds from the start to the first answer; the login waits in the director."""
    while True:
        try:
            client = socket.socket(socket.AF_UNIX)
            client.connect(str(path))
            break
        except OSError:
            client.close()
            time.sleep(0.002)
    listening = time.monotonic() - started
    client.settimeout(LIMIT)
    client.sendall(b"VERSION\t1\t2\nCPID\t77\nAUTH\t1\tPLAIN\tservice=imap\tresp=user77\n")
    text = b""
    while b"\nOK\t1\t" not in text:
        data = client.recv(65536)
        if not data or b"\nFAIL\t" in text:
            sys.exit(f"the first login failed: {text}")
        text += data
    return listening, time.monotonic() - started


def users_of(target, log):
    """Users that a director knows, as it says on SIGUSR1."""
    seen = log.read_text().count("users: total=")
    os.kill(target.pid, signal.SIGUSR1)
    end = time.monotonic() + 10
    while time.monotonic() < end:
        found = re.findall(r"users: total=(\d+)", log.read_text())
        if len(found) > seen:
            return int(found[-1])
        time.sleep(0.005)
    sys.exit("no answer to SIGUSR1")


def users_of_dovecot(target):
    """The same, as its admin socket says."""
    admin = socket.socket(socket.AF_UNIX)
    admin.settimeout(LIMIT)
    admin.connect(str(target.directory / "director-admin"))
    admin.sendall(b"VERSION\tdirector-doveadm\t1\t0\nHOST-LIST\n")
    text = b""
    while not text.endswith(b"\n\n"):
        data = admin.recv(65536)
        if not data:
            sys.exit(f"no list of hosts: {text}")
        text += data
    rows = [line.split(b"\t") for line in text.splitlines()[1:] if line]
    return sum(int(row[2]) for row in rows)


def memory_of(target, what):
    """MB: VmRSS is now, VmHWM the most so far."""
    status = pathlib.Path(f"/proc/{target.pid}/status").read_text()
    return int(re.search(what + r":\s+(\d+)", status).group(1)) / 1024


def load(target, options, directory, seconds, rate):
    """Logins at a director at a fixed rate; gives the process and its result file."""
    result = directory / f"load{time.monotonic_ns()}.json"
    command = [str(options.binaries / "loadgen"), "run"]
    command += ["--target", f"login:{target.sockets['login']}", "--auth-stub", str(target.auth)]
    command += ["--pin", str(options.generator_cpu), "--json", str(result), "--connections", "16"]
    command += ["--users", str(options.users), "--no-preload", "--rate", str(rate)]
    command += ["--warm-up", "0", "--seconds", str(seconds)]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL), result


def latency(process, result):
    if process.wait(single.RUN_LIMIT) != 0:
        sys.exit("the generator failed")
    return json.loads(result.read_text())["latency"]


def preload(ring, options):
    first = ring.members[0]
    command = [str(options.binaries / "loadgen"), "run"]
    command += ["--target", f"login:{first.sockets['login']}", "--auth-stub", str(first.auth)]
    command += ["--pin", str(options.generator_cpu), "--users", str(options.users)]
    command += ["--seconds", "0.5", "--time-limit", str(single.RUN_LIMIT)]
    rings.run(command, ring)


def join(ring, options, directory):
    """One join: the third director starts, and ends again."""
    seconds = options.seconds
    first = ring.members[0]
    # A few names share a hash.
    if options.dovecot:
        expected = users_of_dovecot(first)
    else:
        expected = users_of(first, directory / "homing0.out")
    before = latency(*load(first, options, directory, seconds, options.rate))
    had = memory_of(first, "VmRSS")
    base = directory / "homing2"
    log = directory / "homing2.out"
    auth = Auth(base / "auth-login")
    during = load(first, options, directory, seconds, options.rate)
    time.sleep(NOT_YET)
    third = single.Target("homing", base, base / "login", None, base / "auth-login")
    command = [options.homing, "run", "--config", str(base / "homing.toml"), "--cores", "1"]
    started = time.monotonic()
    third.child = subprocess.Popen(["taskset", "-c", str(options.target_cpu), *command],
                                   stdout=open(log, "wb"), stderr=subprocess.STDOUT)
    third.pid = third.child.pid
    try:
        listening, served = first_login(base / "login", started)
        auth.stop()
        own = load(third, options, directory, seconds - NOT_YET - 1, JOINER_RATE)
        while users_of(third, log) < expected:
            if time.monotonic() - started > LIMIT:
                sys.exit("the users do not come")
            time.sleep(0.02)
        complete = time.monotonic() - started
        during, own = latency(*during), latency(*own)
        memory = memory_of(third, "VmHWM")
        after = latency(*load(first, options, directory, seconds, options.rate))
    finally:
        third.stop()
        # The generator's, or ours.
        (base / "auth-login").unlink(missing_ok=True)
    time.sleep(2)
    return {"listening": listening, "served": served, "complete": complete, "memory": memory,
            "had": had, "most": memory_of(first, "VmHWM"), "own": own["p99"], "own_max": own["max"],
            "before": before["p99"], "during": during["p99"], "after": after["p99"],
            "longest": during["max"]}


def certificates(directory, addresses):
    """Settings with a certificate for all of them."""
    names = ",".join(f"IP:{address}" for address in addresses)
    files = [directory / f"ring-{name}.pem" for name in ("cert", "key", "ca")]
    run = lambda *words: subprocess.run(["openssl", *map(str, words)], check=True, capture_output=True)
    authority = directory / "authority.key"
    curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    run("req", "-x509", *curve, "-keyout", authority, "-out", files[2], "-subj", "/CN=bench", "-days", 2)
    request = directory / "ring.csr"
    run("req", *curve, "-keyout", files[1], "-out", request, "-subj", "/CN=ring",
        "-addext", f"subjectAltName={names}")
    run("x509", "-req", "-in", request, "-CA", files[2], "-CAkey", authority, "-CAcreateserial",
        "-out", files[0], "-days", 2, "-copy_extensions", "copy")
    return "".join(f'director_ring_tls_{name} = "{file}"\n' for name, file in
                   zip(("cert", "key", "ca"), files))


def ring_of_two(directory, options):
    """Two directors that share the users, and the configuration of a third."""
    options.directors = 3
    if options.dovecot:
        ring = rings.dovecot_ring(directory, options)
        rings.homing_member(directory, options, ring.network, 2)
    else:
        addresses = [f"127.0.82.{number}" for number in (1, 2, 3)]
        options.more = certificates(directory, addresses) if options.tls else ""
        ring = rings.homing_ring(directory, options)
    ring.members.pop().stop()
    return ring


def arguments():
    root = pathlib.Path(__file__).resolve().parent.parent
    target = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", root / "target"))
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--homing", required=True, help="the homing binary")
    parser.add_argument("--dovecot", action="store_true", help="the two others are Dovecots")
    parser.add_argument("--tls", action="store_true", help="they encrypt")
    parser.add_argument("--users", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--rate", type=int, default=5_000, help="logins a second at a neighbour")
    parser.add_argument("--seconds", type=float, default=6.0, help="each stretch of time")
    parser.add_argument("--binaries", type=pathlib.Path, default=target / "release")
    parser.add_argument("--target-cpu", type=int, default=0)
    parser.add_argument("--generator-cpu", type=int, default=1)
    parser.add_argument("--nice", type=int, default=0)
    return parser.parse_args()


def main():
    options = arguments()
    os.nice(options.nice)
    with tempfile.TemporaryDirectory(prefix="bench-") as directory:
        directory = pathlib.Path(directory)
        directory.chmod(0o755)  # Dovecot's processes run as other users
        ring = ring_of_two(directory, options)
        try:
            time.sleep(25)  # the two wait for the third one, and then go on without it
            preload(ring, options)
            results = [join(ring, options, directory) for _ in range(options.rounds)]
        finally:
            ring.stop()
    median = lambda key: statistics.median(result[key] for result in results)
    print(f"{options.users:,} users, {options.rounds} joins, medians")
    print(f"listening after {median('listening'):.2f} s, first login answered after "
          f"{median('served'):.2f} s, all users known after {median('complete'):.2f} s, "
          f"{median('memory'):.0f} MB; a neighbour had {median('had'):.0f} MB before, "
          f"{median('most'):.0f} MB at most")
    print(f"p99 at a neighbour, {options.rate}/s: before {single.milliseconds(median('before'))}, "
          f"while joining {single.milliseconds(median('during'))} "
          f"(longest {single.milliseconds(median('longest'))}), "
          f"after {single.milliseconds(median('after'))}")
    print(f"at the one that joins, {JOINER_RATE}/s from its first answer on: p99 "
          f"{single.milliseconds(median('own'))}, longest {single.milliseconds(median('own_max'))}")


if __name__ == "__main__":
    main()
