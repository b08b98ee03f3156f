#!/usr/bin/env python3
"""Draws the pictures of tuning.md: Homing and Dovecot's director under the same load, by the generator.

Each director is alone while it is driven, on one CPU; the generator, with the stub auth server in it, is on
another. As root, with /usr/sbin/dovecot (Debian: dovecot-core 2.3):

    cargo build --release --workspace
    benches/pictures.py

`--nice -20` keeps most of the other work of a shared machine out of the pictures.
"""

import argparse
import os
import pathlib
import subprocess
import sys
import tempfile

import side_by_side
from side_by_side import RUN_LIMIT, start_dovecot, start_homing

ROOT = pathlib.Path(__file__).resolve().parent.parent
PLACE = ROOT / "docs" / "pictures"

# file, arguments of the generator
SHEETS = [
    # What a login waits at a rate that keeps one CPU of Dovecot's director busy.
    ("rate", ["--rate", "130000", "--seconds", "6", "--interval", "0.25"]),
    # A proxy tier restarts in Dovecot's default login mode: everybody at once, a connection each.
    ("storm", ["--storm", "5", "--users", "50000", "--connection-per-login", "--connections", "4000",
               "--retries", "5", "--interval", "0.25"]),
]


def start_direct(directory, cpu, homing):
    """Homing that lets no lookups gather."""
    usual = side_by_side.HOMING
    side_by_side.HOMING = "lookup_batch_delay = 0\n" + usual
    try:
        below = directory / "direct"
        below.mkdir(mode=0o755)
        return start_homing(below, cpu, homing)
    finally:
        side_by_side.HOMING = usual


def prefer(process, nice):
    """Sets how nice the session of a process is to others: the kernel shares CPUs between sessions."""
    group = pathlib.Path(f"/proc/{process}/autogroup")
    if nice and group.exists():
        group.write_text(f"{nice}\n")


def drive(target, sheet, load, options, directory):
    result = directory / f"{target.title}.json"
    command = [options.binaries / "loadgen", "run", "--target", f"login:{target.sockets['login']}"]
    command += ["--auth-stub", target.auth, "--pid", target.pid, "--pin", options.generator_cpu]
    command += ["--json", result, "--time-limit", RUN_LIMIT, *load]
    command = [str(word) for word in command]
    done = subprocess.run(command, capture_output=True, text=True, timeout=RUN_LIMIT + 30)
    if done.returncode != 0:
        sys.exit(f"{' '.join(command)}\n{done.stdout}{done.stderr}")
    print(f"== {sheet}: {target.title}\n{done.stdout.split('backend  ')[0]}")
    return result


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--binaries", type=pathlib.Path, default=ROOT / "target" / "release")
    parser.add_argument("--target-cpu", type=int, default=0)
    parser.add_argument("--generator-cpu", type=int, default=1)
    parser.add_argument("--nice", type=int, default=0)
    parser.add_argument("--output", type=pathlib.Path, default=PLACE)
    options = parser.parse_args()
    if options.target_cpu == options.generator_cpu or os.cpu_count() < 2:
        sys.exit("the target and the generator need a CPU each")
    if os.getpid() != os.getsid(0):
        os.setsid()
    prefer("self", options.nice)
    options.output.mkdir(parents=True, exist_ok=True)
    homing = str(options.binaries / "homing")
    starts = [
        ("Dovecot 2.3.19", lambda at: start_dovecot(at, options.target_cpu)),
        ("Homing", lambda at: start_homing(at, options.target_cpu, homing)),
        ("Homing, lookup_batch_delay = 0", lambda at: start_direct(at, options.target_cpu, homing)),
    ]
    for sheet, load in SHEETS:
        with tempfile.TemporaryDirectory(prefix="pic-") as directory:
            directory = pathlib.Path(directory)
            directory.chmod(0o755)  # Dovecot's processes run as other users
            results = []
            for title, start in starts:
                target = start(directory)
                target.title = title
                prefer(target.child.pid, options.nice)
                try:
                    results.append(drive(target, sheet, load, options, directory))
                finally:
                    target.stop()
            picture = options.output / f"{sheet}.svg"
            plot = [options.binaries / "loadgen", "plot", "-o", picture, *results]
            subprocess.run([str(word) for word in plot], check=True)
            print(f"== {picture}: {picture.stat().st_size} bytes\n")


if __name__ == "__main__":
    main()
