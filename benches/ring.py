#!/usr/bin/env python3
"""What a login costs a ring of directors: rings of Dovecot's and of Homing's, with the same load in turns.

All logins enter at the first director at a fixed rate; the CPU time of all directors of the ring is
added up and divided by the logins. All directors share one CPU, the generator with the stub auth
server has another. The bytes that directors send each other are those that the kernel counted.

    cargo build --release --workspace
    benches/ring.py --rounds 10 --homing target/release/homing [--directors 2 3 4 5]

Dovecot needs root and /usr/sbin/dovecot (Debian: dovecot-core 2.3). Only processes that were started
here are ended.
"""

import argparse
import json
import os
import pathlib
import re
import socket
import statistics
import subprocess
import sys
import tempfile
import time

import figures
import side_by_side as single

USERS = 100_000
SYNC_LIMIT = 60  # seconds until a ring must be whole
USER_LINE = len("USER\t1669653170\t10.0.0.10\t1795460772\n")

DOVECOT_RING = """
director_servers = {servers}
service director {{
  inet_listener {{
    address = {address}
    port = 9090
  }}
}}
"""

HOMING_RING = """
[[listener]]
type = "ring"
address = "{address}:9090"
"""


class Ring:
    """The directors of one ring; the first one takes the logins."""

    def __init__(self, name, network, members):
        self.name, self.network, self.members = name, network, members
        self.preloaded = False

    def cpu(self):
        """Seconds of user and system time of all directors."""
        ticks = 0
        for member in self.members:
            fields = pathlib.Path(f"/proc/{member.pid}/stat").read_text().rsplit(")", 1)[1].split()
            ticks += int(fields[11]) + int(fields[12])
        return ticks / os.sysconf("SC_CLK_TCK")

    def sent(self):
        """Bytes that went over the connections of the ring, as the kernel counts them."""
        ring = f"( sport = :9090 or dport = :9090 ) and src {self.network}.0/24"
        text = subprocess.run(["ss", "-tinH", "state", "established", ring],
                              capture_output=True, text=True, check=True).stdout
        return sum(int(count) for count in re.findall(r"bytes_acked:(\d+)", text))

    def stop(self):
        for member in self.members:
            member.stop()


def servers(network, count):
    return " ".join(f"{network}.{number + 1}" for number in range(count))


def dovecot_ring(directory, options):
    network, members = "127.0.81", []
    ring = Ring("dovecot", network, members)
    for number in range(options.directors):
        base = directory / f"dovecot{number}"
        base.mkdir()
        address = f"{network}.{number + 1}"
        text = single.DOVECOT.format(dir=base).replace("director_servers =\n", "")
        text = text.replace("listen = 127.0.3.1", f"listen = {address}")
        text += DOVECOT_RING.format(address=address, servers=servers(network, options.directors))
        config = directory / f"dovecot{number}.conf"
        config.write_text(text)
        login = base / "login" / "director"
        target = single.Target("dovecot", base, login, None, base / "auth-login")
        output = open(directory / f"dovecot{number}.out", "wb")
        target.start(["dovecot", "-F", "-c", str(config)], options.target_cpu, output)
        members.append(target)
    for target in members:
        # The master starts the director with the first connection to one of its sockets.
        knock = socket.socket(socket.AF_UNIX)
        knock.connect(str(target.sockets["login"]))
        target.pid = single.wait_for(lambda: single.child_named(target.child.pid, "director"),
                                     "dovecot's director")
        knock.close()
    return ring


def homing_member(directory, options, network, number):
    """Directory and settings of one director, which is not started."""
    base = directory / f"homing{number}"
    base.mkdir()
    text = f'director_servers = "{servers(network, options.directors)}"\n'
    text += getattr(options, "more", "") + single.HOMING.format(dir=base)
    text += HOMING_RING.format(address=f"{network}.{number + 1}")
    (base / "homing.toml").write_text(text)
    return base


def homing_ring(directory, options):
    network, members = "127.0.82", []
    ring = Ring("homing", network, members)
    for number in range(options.directors):
        base = homing_member(directory, options, network, number)
        config = base / "homing.toml"
        target = single.Target("homing", base, base / "login", None, base / "auth-login")
        output = open(directory / f"homing{number}.out", "wb")
        command = [options.homing, "run", "--config", str(config), "--cores", "1"]
        target.start(command, options.target_cpu, output)
        members.append(target)
    return ring


def drive(ring, options, directory):
    """One run: microseconds of CPU and bytes in the ring for each login."""
    result = directory / "result.json"
    first = ring.members[0]
    command = [str(options.binaries / "loadgen"), "run"]
    command += ["--target", f"login:{first.sockets['login']}", "--auth-stub", str(first.auth)]
    command += ["--pid", str(first.pid), "--pin", str(options.generator_cpu)]
    command += ["--json", str(result), "--time-limit", str(single.RUN_LIMIT)]
    command += ["--connections", "16", "--users", str(USERS)]
    load = ["--rate", str(options.rate)] if options.rate else ["--in-flight", "32"]
    warm = command + load + ["--seconds", "0.5"] + (["--no-preload"] if ring.preloaded else [])
    run(warm, ring)
    ring.preloaded = True
    cpu, sent = ring.cpu(), ring.sent()
    run(command + load + ["--seconds", str(options.seconds), "--no-preload", "--warm-up", "0"], ring)
    # What the last logins cause in the ring belongs to them.
    time.sleep(0.3)
    cpu, sent = ring.cpu() - cpu, ring.sent() - sent
    found = json.loads(result.read_text())
    logins = found["lookups"]
    return {
        "cpu": cpu * 1e6 / logins,
        "lines": sent / USER_LINE / logins,
        "rate": found["per_second"],
        "p50": found["latency"]["p50"],
        "p99": found["latency"]["p99"],
    }


def run(command, ring):
    done = subprocess.run(command, capture_output=True, text=True, timeout=single.RUN_LIMIT + 30,
                          **figures.favoured())
    if done.returncode != 0:
        sys.exit(f"{' '.join(command)}\n{ring.name}: {done.stdout}{done.stderr}")


def table(results):
    head = ["ring", "CPU µs/login, all directors", "ratio to Dovecot", "USER lines/login", "logins/s",
            "p50", "p99"]
    rows = []
    for name, runs in results.items():
        median = lambda key: statistics.median(run[key] for run in runs)
        ratio = ""
        if name != "dovecot" and "dovecot" in results:
            both = ([run["cpu"] for run in results[of]] for of in (name, "dovecot"))
            ratio = figures.spread(figures.ratios(*both), "{:.3f}")
        rows.append([name, f"{median('cpu'):.2f}", ratio, f"{median('lines'):.2f}",
                     f"{median('rate'):,.0f}", single.milliseconds(median("p50")),
                     single.milliseconds(median("p99"))])
    return figures.table(head, rows)


def measure(options):
    """All runs, by the name of the ring."""
    results, rings = {}, []
    with tempfile.TemporaryDirectory(prefix="bench-") as directory:
        directory = pathlib.Path(directory)
        directory.chmod(0o755)  # Dovecot's processes run as other users
        try:
            if not options.no_dovecot:
                rings.append(dovecot_ring(directory, options))
            rings.append(homing_ring(directory, options))
            time.sleep(25)  # a ring whose members started one by one may need its back-offs
            for number in range(options.rounds):
                for ring in rings:
                    print(f"round {number + 1}: {ring.name}", file=sys.stderr)
                    results.setdefault(ring.name, []).append(drive(ring, options, directory))
        finally:
            for ring in rings:
                ring.stop()
    return results


def arguments():
    root = pathlib.Path(__file__).resolve().parent.parent
    target = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", root / "target"))
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--seconds", type=float, default=4.0, help="measured time of one run")
    parser.add_argument("--rate", type=int, default=20_000, help="logins a second; 0: all it can")
    parser.add_argument("--directors", type=int, nargs="+", default=[3], help="sizes of rings")
    parser.add_argument("--homing", required=True, help="the homing binary")
    parser.add_argument("--no-dovecot", action="store_true")
    parser.add_argument("--binaries", type=pathlib.Path, default=target / "release")
    parser.add_argument("--target-cpu", type=int, default=0)
    parser.add_argument("--generator-cpu", type=int, default=1)
    parser.add_argument("--nice", type=int, default=0)
    return parser.parse_args()


def main():
    options = arguments()
    os.nice(options.nice)
    for options.directors in options.directors:
        print(f"{options.directors} directors\n{table(measure(options))}", flush=True)


if __name__ == "__main__":
    main()
