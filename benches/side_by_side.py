#!/usr/bin/env python3
"""Drives Dovecot's director, the null relays and Homing with the same load, in turns.

Every director runs alone on one CPU and the generator, with the stub auth server in it, on another.
In each round every case goes to every target before the next round begins, so that what else the
machine does falls on all of them alike. The result is a Markdown table: medians over the rounds of
the CPU time of the director's process per lookup, the median of the ratios to Dovecot's in the same
round with its confidence interval (figures.py), rate and latencies.

    cargo build --release --workspace
    benches/side_by_side.py --rounds 10 --homing target/release/homing

Dovecot needs root and /usr/sbin/dovecot (Debian: dovecot-core 2.3). Only processes that were
started here are ended.
"""

import argparse
import json
import os
import pathlib
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time

import figures

USERS = 100_000
WARM_UP_USERS = 5_000_000  # more names than any warm-up uses up
MEMORY_USERS = 1_000_000  # with fewer, what the allocator keeps anyway distorts the figure
START_LIMIT = 20  # seconds until a director must answer
RUN_LIMIT = 300  # seconds that one run may take

# name, kind of socket, arguments of the generator
CASES = [
    ("16 x 32", "login", ["--connections", "16", "--in-flight", "32"]),
    ("16 x 1", "login", ["--connections", "16", "--in-flight", "1"]),
    ("1000 x 4", "login", ["--connections", "1000", "--in-flight", "4"]),
    ("connection per login, 16", "login", ["--connection-per-login", "--connections", "16"]),
    ("authreply 16 x 32", "authreply", ["--connections", "16", "--in-flight", "32"]),
    ("new users, 16 x 32", "new", ["--connections", "16", "--in-flight", "32"]),
    ("open loop, 150,000/s", "login", ["--connections", "16", "--rate", "150000"]),
]

DOVECOT = """
base_dir = {dir}
log_path = {dir}.log
protocols =
ssl = no
listen = 127.0.3.1
default_login_user = nobody
default_internal_user = dovecot
director_servers =
director_mail_servers = 10.0.0.1-10.0.0.20
director_user_expire = 15min
service auth {{
  unix_listener auth-login {{
    mode = 0
  }}
  client_limit = 20000
}}
service director {{
  user = root
  chroot =
  client_limit = 15000
  vsz_limit = 8G
  unix_listener login/director {{
    mode = 0666
  }}
  unix_listener director-authreply {{
    mode = 0666
  }}
}}
passdb {{
  driver = static
  args = proxy=y nopassword=y
}}
"""

HOMING = """
director_mail_servers = "10.0.0.1-10.0.0.20"
director_user_expire = "15 min"
auth_login_path = "{dir}/auth-login"
auth_userdb_path = "{dir}/auth-userdb"

[[listener]]
type = "login"
path = "{dir}/login"
mode = "0666"

[[listener]]
type = "authreply"
path = "{dir}/authreply"
mode = "0666"
"""


class Target:
    """A director under test: its sockets, and the process whose CPU time counts."""

    def __init__(self, name, directory, login, authreply, auth):
        self.name, self.directory, self.auth = name, directory, auth
        self.sockets = {"login": login, "authreply": authreply, "new": login}
        self.child, self.pid, self.next_user, self.preloaded = None, None, 0, set()
        self.is_relay = False

    def start(self, command, cpu, output):
        pinned = ["taskset", "-c", str(cpu), *command]
        self.child = subprocess.Popen(pinned, stdout=output, stderr=output, **figures.favoured())
        self.pid = self.child.pid
        wait_for(lambda: self.sockets["login"].exists(), f"{self.name} to listen", self.child)
        time.sleep(0.2)  # the path is there a moment before anybody listens

    def stop(self):
        if self.child and self.child.poll() is None:
            self.child.send_signal(signal.SIGTERM)
            try:
                self.child.wait(10)
            except subprocess.TimeoutExpired:
                self.child.kill()
                self.child.wait(10)


def wait_for(ready, what, child=None):
    """Waits a bounded time, and not for what has died."""
    end = time.monotonic() + START_LIMIT
    while time.monotonic() < end:
        result = ready()
        if result:
            return result
        if child and child.poll() is not None:
            sys.exit(f"waiting for {what}: it ended with status {child.returncode}")
        time.sleep(0.05)
    sys.exit(f"waiting for {what}: not within {START_LIMIT} seconds")


def child_named(parent, name):
    """The process that `parent` started and that calls itself `name`."""
    children = pathlib.Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
    for child in children:
        try:
            if pathlib.Path(f"/proc/{child}/comm").read_text().strip() == name:
                return int(child)
        except OSError:
            pass  # it ended in between
    return None


def start_dovecot(directory, cpu):
    base = directory / "dovecot"
    base.mkdir()
    config = directory / "dovecot.conf"
    config.write_text(DOVECOT.format(dir=base))
    login = base / "login" / "director"
    target = Target("dovecot", base, login, base / "director-authreply", base / "auth-login")
    output = open(directory / "dovecot.out", "wb")
    target.start(["dovecot", "-F", "-c", str(config)], cpu, output)
    # The master starts the director with the first connection to one of its sockets.
    knock = socket.socket(socket.AF_UNIX)
    knock.connect(str(login))
    target.pid = wait_for(lambda: child_named(target.child.pid, "director"), "dovecot's director")
    knock.close()
    return target


def start_relay(name, program, directory, cpu):
    """A relay that looks at nothing."""
    base = directory / name.replace(" ", "-")
    base.mkdir()
    target = Target(name, base, base / "login", None, base / "auth-login")
    target.is_relay = True
    output = open(directory / f"{base.name}.out", "wb")
    target.start([str(program), str(base / "login"), str(target.auth), "7200"], cpu, output)
    return target


def start_homing(directory, cpu, homing, more="", cores=1):
    """`more`: further settings."""
    base = directory / "homing"
    base.mkdir()
    config = base / "homing.toml"
    config.write_text(more + HOMING.format(dir=base))
    target = Target("homing", base, base / "login", base / "authreply", base / "auth-login")
    output = open(directory / "homing.out", "wb")
    target.start([homing, "run", "--config", str(config), "--cores", str(cores)], cpu, output)
    return target


def drive(target, kind, arguments, options, directory):
    """One run of the generator. None: the target has no such socket."""
    path = target.sockets[kind]
    if path is None:
        return None
    result = directory / "result.json"
    protocol = "authreply" if kind == "authreply" else "login"
    command = [str(options.binaries / "loadgen"), "run", "--target", f"{protocol}:{path}"]
    command += ["--pid", str(target.pid), "--pin", str(options.generator_cpu)]
    command += ["--json", str(result), "--time-limit", str(RUN_LIMIT), *arguments]
    if protocol == "login":
        command += ["--auth-stub", str(target.auth)]
    if target.is_relay:
        command += ["--no-host"]
    if kind == "new":
        # The generator warms up with new users too: leave a gap so that no name comes again.
        first = target.next_user or USERS
        target.next_user = first + options.new_users + WARM_UP_USERS
        command += ["--new-users", str(first), "--lookups", str(options.new_users)]
        command += ["--warm-up", "0.2"]
    else:
        command += ["--users", str(USERS), "--seconds", str(options.seconds)]
        command += [] if not target.preloaded else ["--no-preload"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=RUN_LIMIT + 30,
                          **figures.favoured())
    if done.returncode != 0:
        sys.exit(f"{' '.join(command)}\n{target.name}: {done.stdout}{done.stderr}")
    if kind != "new":
        target.preloaded.add(kind)
    return json.loads(result.read_text())


def milliseconds(value):
    return f"{value / 1000:.2f} ms"


def figures_of(runs):
    """Medians over the rounds of one target and case."""
    median = lambda get: statistics.median(get(run) for run in runs)
    memory = [run["target"]["bytes_per_new_user"] for run in runs]
    memory = [value for value in memory if value is not None]
    if runs[0]["lookups"] < MEMORY_USERS:
        memory = []
    return {
        "cpu": median(lambda run: run["target"]["cpu_us_per_lookup"]),
        "share": median(lambda run: run["target"]["cpu_share"]),
        "rate": median(lambda run: run["per_second"]),
        "latency": [median(lambda run, p=p: run["latency"][p]) for p in ("p50", "p99", "max")],
        "memory": f"{statistics.median(memory):.0f}" if memory else "",
        "generator": sum(run["generator"]["bottleneck"] == "generator" for run in runs),
    }


def cpu(run):
    return run["target"]["cpu_us_per_lookup"]


def table(results, names, rounds):
    head = ["case", "target", "CPU µs/lookup", "ratio to Dovecot", "lookups/s", "p50", "p99", "max",
            "bytes/new user", "generator held back"]
    rows = []
    for case, _, _ in CASES:
        for name in names:
            runs = results.get((case, name))
            if not runs:
                continue
            row, ratio = figures_of(runs), ""
            reference = results.get((case, "dovecot"))
            if reference and name != "dovecot":
                ratio = figures.spread(figures.ratios(map(cpu, runs), map(cpu, reference)))
            cells = [case, name, f"{row['cpu']:.2f}", ratio, f"{row['rate']:,.0f}"]
            cells += [milliseconds(value) for value in row["latency"]]
            rows.append(cells + [row["memory"], f"{row['generator']} of {rounds}"])
    return figures.table(head, rows)


def targets(directory, options):
    """Those that the options ask for, each started when the one before answers."""
    if not options.no_dovecot:
        yield start_dovecot(directory, options.target_cpu)
    yield start_relay("null relay", options.binaries / "null_relay", directory, options.target_cpu)
    if options.uring:
        program = options.binaries / "examples" / "uring_relay"
        yield start_relay("io_uring relay", program, directory, options.target_cpu)
    if options.homing:
        yield start_homing(directory, options.target_cpu, options.homing)


def measure(options, cases=CASES):
    """All runs, by case and name of the target."""
    results, started = {}, []
    with tempfile.TemporaryDirectory(prefix="bench-") as directory:
        directory = pathlib.Path(directory)
        directory.chmod(0o755)  # Dovecot's processes run as other users
        try:
            for target in targets(directory, options):
                started.append(target)
            for number in range(options.rounds):
                for name, kind, load in cases:
                    for target in started:
                        print(f"round {number + 1}: {name}: {target.name}", file=sys.stderr)
                        run = drive(target, kind, load, options, directory)
                        if run:
                            results.setdefault((name, target.name), []).append(run)
        finally:
            for target in started:
                target.stop()
    return results


def arguments():
    root = pathlib.Path(__file__).resolve().parent.parent
    target = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", root / "target"))
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--seconds", type=float, default=2.0, help="measured time of one run")
    parser.add_argument("--new-users", type=int, default=200_000, metavar="N",
                        help="new users of one run; for memory figures 2,000,000 and one round")
    parser.add_argument("--homing", help="the homing binary; without it Homing is left out")
    parser.add_argument("--no-dovecot", action="store_true")
    parser.add_argument("--uring", action="store_true", help="the relay on io_uring too")
    parser.add_argument("--binaries", type=pathlib.Path, default=target / "release",
                        help="where loadgen and null_relay are")
    parser.add_argument("--target-cpu", type=int, default=0)
    parser.add_argument("--generator-cpu", type=int, default=1)
    parser.add_argument("--nice", type=int, default=0,
                        help="of targets and generator; below 0 on a machine that does other work")
    parser.add_argument("--case", action="append", choices=[name for name, _, _ in CASES],
                        help="only this case; can be repeated")
    parser.add_argument("--json", type=pathlib.Path, help="write all results to this file")
    return parser.parse_args()


def main():
    options = arguments()
    if options.target_cpu == options.generator_cpu or os.cpu_count() < 2:
        sys.exit("the target and the generator need a CPU each")
    try:
        os.nice(options.nice)  # everything started from here inherits it
    except OSError as error:
        sys.exit(f"--nice {options.nice}: {error}; below 0 needs root")
    cases = [case for case in CASES if not options.case or case[0] in options.case]
    results = measure(options, cases)
    names = dict.fromkeys(name for _, name in results)
    print(table(results, names, options.rounds))
    if options.json:
        flat = [{"case": case, "target": name, "runs": runs}
                for (case, name), runs in results.items()]
        options.json.write_text(json.dumps(flat, indent=1))


if __name__ == "__main__":
    main()
