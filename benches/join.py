#!/usr/bin/env python3
"""How long a Homing director takes that joins a ring of Homing directors with many users, and what its
neighbours' clients notice.

Two directors share the users; then a third starts. Reported are the time from its start to its first
answered login, to the synced ring, and until it knows all users, and the latency of logins at a
neighbour at a fixed rate in three equal stretches of time: before, while the third one joins, after.

    cargo build --release --workspace
    benches/join.py --homing target/release/homing [--users 1000000]

Only processes that were started here are ended.
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

LIMIT = 120  # seconds until the joining director must know all users


class Auth(threading.Thread):
    """Answers the few logins of this script at the joining director."""

    def __init__(self, path):
        super().__init__(daemon=True)
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(str(path))
        self.listener.listen()
        self.start()

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


def load(ring, options, directory, seconds):
    """Logins at the first director at a fixed rate; gives the process and its result file."""
    result = directory / f"load{time.monotonic_ns()}.json"
    first = ring.members[0]
    command = [str(options.binaries / "loadgen"), "run"]
    command += ["--target", f"login:{first.sockets['login']}", "--auth-stub", str(first.auth)]
    command += ["--pin", str(options.generator_cpu), "--json", str(result), "--connections", "16"]
    command += ["--users", str(options.users), "--no-preload", "--rate", str(options.rate)]
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
    # A few names share a hash.
    expected = users_of(ring.members[0], directory / "homing0.out")
    before = latency(*load(ring, options, directory, seconds))
    base = directory / "homing2"
    log = directory / "homing2.out"
    during = load(ring, options, directory, seconds)
    time.sleep(0.5)
    third = single.Target("homing", base, base / "login", None, base / "auth-login")
    command = [options.homing, "run", "--config", str(base / "homing.toml"), "--cores", "1"]
    started = time.monotonic()
    third.child = subprocess.Popen(["taskset", "-c", str(options.target_cpu), *command],
                                   stdout=open(log, "wb"), stderr=subprocess.STDOUT)
    third.pid = third.child.pid
    try:
        listening, served = first_login(base / "login", started)
        while users_of(third, log) < expected:
            if time.monotonic() - started > LIMIT:
                sys.exit("the users do not come")
            time.sleep(0.02)
        complete = time.monotonic() - started
        during = latency(*during)
        memory = int(re.search(r"VmHWM:\s+(\d+)", pathlib.Path(f"/proc/{third.pid}/status")
                               .read_text()).group(1)) / 1024
        after = latency(*load(ring, options, directory, seconds))
    finally:
        third.stop()
    time.sleep(2)
    return {"listening": listening, "served": served, "complete": complete, "memory": memory,
            "before": before["p99"], "during": during["p99"], "after": after["p99"]}


def arguments():
    root = pathlib.Path(__file__).resolve().parent.parent
    target = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", root / "target"))
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--homing", required=True, help="the homing binary")
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
    options.directors = 3
    with tempfile.TemporaryDirectory(prefix="bench-") as directory:
        directory = pathlib.Path(directory)
        ring = rings.homing_ring(directory, options)
        try:
            ring.members.pop().stop()
            Auth(directory / "homing2" / "auth-login")
            time.sleep(25)  # the two wait for the third one, and then go on without it
            preload(ring, options)
            results = [join(ring, options, directory) for _ in range(options.rounds)]
        finally:
            ring.stop()
    median = lambda key: statistics.median(result[key] for result in results)
    print(f"{options.users:,} users, {options.rounds} joins, medians")
    print(f"listening after {median('listening'):.2f} s, first login answered after "
          f"{median('served'):.2f} s, all users known after {median('complete'):.2f} s, "
          f"{median('memory'):.0f} MB")
    print(f"p99 at a neighbour, {options.rate}/s: before {single.milliseconds(median('before'))}, "
          f"while joining {single.milliseconds(median('during'))}, "
          f"after {single.milliseconds(median('after'))}")


if __name__ == "__main__":
    main()
