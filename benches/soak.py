#!/usr/bin/env python3
"""Homing for a long time at half of what it can do: its memory and descriptors must stay as they are.

    cargo build --release --workspace
    benches/soak.py [--minutes 60] [--rate LOGINS_PER_SECOND]

Two directors in a ring, the first of which gets the logins: most of users that are known, some of new ones, a few
on connections of their own; users are forgotten after two minutes, and the state is on disk. It also answers a
scrape of its metrics with every sample. Without --rate it first measures how much it can do, and takes half.

Every ten seconds resident memory and descriptors of both are noted (--table FILE). The first third of the time is
for tables and caches to grow to what they need; after that nothing may grow. Exit status 1 if something does, if
a login has failed, or if a director has ended. Only processes started here are ended.
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

START_LIMIT = 20  # seconds until the directors must be one ring
INTERVAL = 10  # seconds between two samples
MEASURE = 10  # seconds in which the most is measured
USERS = 100_000
NEW_SHARE = 0.02
EXPIRE = 120  # seconds until a user is forgotten
# What the last third may have more than the second, in its middle: pages that the allocator gives back late.
GROWTH = 1.03
NETWORK = "127.0.83"
ROOT = pathlib.Path(__file__).resolve().parent.parent


def settings(base, number):
    return f"""
director_mail_servers = "10.0.0.1-10.0.0.20"
director_servers = "{NETWORK}.1 {NETWORK}.2"
director_user_expire = "{EXPIRE} s"
base_dir = "{base}"
auth_login_path = "{base}/auth-login"
auth_userdb_path = "{base}/auth-userdb"
state_path = "{base}/state"
state_interval = "30 s"
kick_service = "none"
cores = 1
[[listener]]
type = "login"
path = "{base}/login"
mode = "0600"
[[listener]]
type = "admin"
path = "{base}/director-admin"
mode = "0600"
[[listener]]
type = "http"
path = "{base}/http"
mode = "0600"
[[listener]]
type = "ring"
address = "{NETWORK}.{number}:9090"
"""


class Director:
    def __init__(self, options, directory, number):
        self.base = directory / f"h{number}"
        self.base.mkdir()
        config = self.base / "homing.toml"
        config.write_text(settings(self.base, number))
        self.log = self.base / "log"
        with self.log.open("w") as out:
            self.child = subprocess.Popen([options.bin / "homing", "run", "--config", config], stderr=out)

    def ask(self, path):
        """An answer of the HTTP interface."""
        with socket.socket(socket.AF_UNIX) as peer:
            peer.settimeout(30)
            peer.connect(str(self.base / "http"))
            peer.sendall(f"GET {path} HTTP/1.1\r\nHost: homing\r\nConnection: close\r\n\r\n".encode())
            answer = b""
            while piece := peer.recv(65536):
                answer += piece
        return answer.partition(b"\r\n\r\n")[2]

    def is_synced(self):
        if self.child.poll() is not None:
            raise SystemExit(f"Homing has ended:\n{self.log.read_text()}")
        try:
            status = json.loads(self.ask("/api/v1/status"))
        except OSError:
            return False
        return status["synced"] and not status["alone"]

    def sample(self):
        """Resident bytes, descriptors and users."""
        if self.child.poll() is not None:
            raise SystemExit(f"Homing has ended:\n{self.log.read_text()}")
        process = pathlib.Path(f"/proc/{self.child.pid}")
        status = process.joinpath("status").read_text().splitlines()
        resident = next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmRSS"))
        metrics = self.ask("/metrics").decode().splitlines()
        users = next(float(line.split()[1]) for line in metrics if line.startswith("homing_users "))
        return {"rss": resident, "fds": len(list(process.joinpath("fd").iterdir())), "users": int(users)}

    def stop(self):
        if self.child.poll() is None:
            self.child.send_signal(signal.SIGTERM)
            self.child.wait(START_LIMIT)


def load(options, director, extra, report, **more):
    command = [options.bin / "loadgen", "run", "--target", f"login:{director.base}/login",
               "--users", str(USERS), "--json", report, "--time-limit", str(options.minutes * 60 + 120), *extra]
    return subprocess.Popen(list(map(str, command)), stdout=subprocess.DEVNULL, **more)


def most(options, director, directory):
    """Logins a second, as fast as it can."""
    report = directory / "most.json"
    extra = ["--connections", 16, "--in-flight", 32, "--seconds", MEASURE]
    if load(options, director, extra, report).wait() != 0:
        raise SystemExit("the measurement before failed")
    return json.loads(report.read_text())["per_second"]


def watch(options, directors, generators):
    """Samples until the generators have ended."""
    samples, begun = [], time.monotonic()
    while any(generator.poll() is None for generator in generators):
        time.sleep(INTERVAL)
        sample = {"at": time.monotonic() - begun, "directors": [it.sample() for it in directors]}
        samples.append(sample)
        if options.table:
            row = [f"{sample['at']:.0f}"]
            for it in sample["directors"]:
                row += [f"{it['rss'] / 1e6:.2f}", str(it["fds"]), str(it["users"])]
            with options.table.open("a") as table:
                table.write("\t".join(row) + "\n")
    return samples


def judge(samples):
    """Rows for people, and what has grown."""
    third = len(samples) // 3
    rows, grown = [], []
    for number in range(2):
        parts = [[it["directors"][number] for it in samples[part * third:(part + 1) * third]] for part in range(3)]
        of = lambda part, what, take: take(it[what] for it in parts[part])
        memory = [of(part, "rss", statistics.median) for part in range(3)]
        # The state's file is open now and then.
        descriptors = [of(part, "fds", statistics.median_low) for part in range(3)]
        if memory[2] > memory[1] * GROWTH:
            grown.append(f"memory of director {number + 1}")
        if descriptors[2] > descriptors[1]:
            grown.append(f"descriptors of director {number + 1}")
        rows.append([f"{'gets the logins' if number == 0 else 'only hears of them'}",
                     *(f"{it / 1e6:.1f} MB, {count}" for it, count in zip(memory, descriptors)),
                     f"{of(2, 'users', statistics.median):,.0f}"])
    return rows, grown


def main():
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--minutes", type=float, default=60)
    arguments.add_argument("--rate", type=int, help="logins a second; without: half of the most")
    arguments.add_argument("--table", type=pathlib.Path, help="a row for each sample goes to this file")
    arguments.add_argument("--bin", type=pathlib.Path, default=ROOT / "target/release")
    options = arguments.parse_args()
    processes = []
    with tempfile.TemporaryDirectory(prefix="soak") as directory:
        directory = pathlib.Path(directory)
        try:
            directors = [Director(options, directory, number) for number in (1, 2)]
            processes += [it.child for it in directors]
            auths = [subprocess.Popen([options.bin / "loadgen", "stub-auth", "--auth-stub", it.base / "auth-login",
                                       "--seconds", str(int(options.minutes * 60 + 600))],
                                      stdout=subprocess.DEVNULL) for it in directors]
            processes += auths
            end = time.monotonic() + START_LIMIT
            while not all(it.is_synced() for it in directors):
                if time.monotonic() > end:
                    raise SystemExit(f"no ring:\n{directors[0].log.read_text()}")
                time.sleep(0.2)
            rate = options.rate or int(most(options, directors[0], directory) / 2)
            print(f"{rate:,} logins a second for {options.minutes:g} minutes", file=sys.stderr)
            seconds = int(options.minutes * 60)
            reports = [directory / "kept.json", directory / "new.json"]
            common = ["--seconds", seconds, "--no-preload", "--new-share", NEW_SHARE]
            few = max(1, rate // 50)
            generators = [
                load(options, directors[0], [*common, "--connections", 16, "--rate", rate - few], reports[0]),
                load(options, directors[0], [*common, "--connections", 64, "--rate", few, "--prefix", "other",
                                             "--connection-per-login"], reports[1]),
            ]
            processes += generators
            samples = watch(options, directors, generators)
            for director in directors:
                director.stop()
        finally:
            for process in processes:
                if process.poll() is None:
                    process.send_signal(signal.SIGTERM)
                    process.wait(START_LIMIT)
        found = [json.loads(report.read_text()) for report in reports]
    rows, grown = judge(samples)
    logins = sum(it["lookups"] for it in found)
    failed = [generator.returncode for generator in generators]
    head = ["director of two", "first third", "second third", "last third", "users"]
    print(figures.table(head, rows))
    print(f"\n{logins:,} logins in {samples[-1]['at'] / 60:.0f} minutes, {len(samples)} samples")
    if grown or any(failed) or len(samples) < 6:
        raise SystemExit(f"grown: {', '.join(grown) or 'nothing'}; generators ended with {failed}")


if __name__ == "__main__":
    main()
