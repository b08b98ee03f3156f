#!/usr/bin/env python3
"""Memory of Homing per user, and its peak while the user table grows.

    cargo build --release --workspace
    benches/memory.py [--users 10000000]

Starts Homing with one serving core, logs in users never seen before, and watches the resident
memory of the process every 20 ms. Only processes started here are ended.
"""

import argparse
import json
import pathlib
import signal
import subprocess
import tempfile
import threading
import time

START_LIMIT = 20  # seconds until the director must be ready
RUN_LIMIT = 600  # seconds that the logins may take
ROOT = pathlib.Path(__file__).resolve().parent.parent


def resident(pid):
    for line in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS"):
            return int(line.split()[1]) * 1024
    raise RuntimeError("no VmRSS")


def settings(directory, users):
    return f"""
director_mail_servers = "10.0.0.1-10.0.0.20"
auth_login_path = "{directory}/auth-login"
auth_userdb_path = "{directory}/auth-userdb"
user_table_limit = {users * 2}
cores = 1
[[listener]]
type = "login"
path = "{directory}/login"
mode = "0600"
"""


def wait_ready(log, process):
    end = time.monotonic() + START_LIMIT
    while "ready" not in log.read_text():
        if process.poll() is not None or time.monotonic() > end:
            raise SystemExit(f"Homing did not start:\n{log.read_text()}")
        time.sleep(0.05)


def main():
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--users", type=int, default=10_000_000)
    arguments.add_argument("--bin", type=pathlib.Path, default=ROOT / "target/release")
    options = arguments.parse_args()
    with tempfile.TemporaryDirectory(prefix="ho") as directory:
        directory = pathlib.Path(directory)
        config = directory / "homing.toml"
        config.write_text(settings(directory, options.users))
        log = directory / "log"
        with log.open("w") as out:
            homing = subprocess.Popen(
                [options.bin / "homing", "run", "--config", config], stderr=out
            )
        samples = []
        stop = threading.Event()

        def sample():
            while not stop.is_set():
                samples.append(resident(homing.pid))
                time.sleep(0.02)

        try:
            wait_ready(log, homing)
            before = resident(homing.pid)
            watcher = threading.Thread(target=sample)
            watcher.start()
            report = directory / "report.json"
            subprocess.run(
                [options.bin / "loadgen", "run", "--target", f"login:{directory}/login",
                 "--auth-stub", directory / "auth-login", "--new-users", "1",
                 "--lookups", str(options.users), "--warm-up", "0", "--json", report],
                check=True, timeout=RUN_LIMIT, stdout=subprocess.DEVNULL,
            )
            stop.set()
            watcher.join()
            users = json.loads(report.read_text())["users"]
            after = resident(homing.pid)
        finally:
            stop.set()
            homing.send_signal(signal.SIGTERM)
            homing.wait(START_LIMIT)
    print(f"{users:,} users: {(after - before) / users:.1f} bytes a user when all are there, "
          f"{(max(samples) - before) / users:.1f} at the peak "
          f"({before / 1e6:.1f} MB before, {after / 1e6:.1f} MB after)")


if __name__ == "__main__":
    main()
