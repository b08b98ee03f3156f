"""The measured effect of settings on one Homing: lookup_batch_delay, cores, login mode."""

import os
import pathlib
import statistics
import sys
import tempfile

import figures
import side_by_side as single

RATE = 20_000  # logins a second that come at times of their own
DELAYS = [0, 200, 500, 1000, 2500]  # µs
CORES_LOAD = ["--connections", "64", "--in-flight", "32"]


def drive(options, load, more="", cores=1, cpus=None):
    """Medians of a fresh Homing: CPU µs a lookup, lookups a second, p50 and p99 in µs."""
    cpus = str(options.target_cpu) if cpus is None else cpus
    with tempfile.TemporaryDirectory(prefix="bench-") as directory:
        directory = pathlib.Path(directory)
        target = None
        try:
            target = single.start_homing(directory, cpus, options.homing, more, cores)
            runs = [single.drive(target, "login", load, options, directory)
                    for _ in range(options.knob_rounds)]
        finally:
            if target:
                target.stop()
    median = lambda get: statistics.median(get(run) for run in runs)
    return [f"{median(single.cpu):.2f} µs", f"{median(lambda run: run['per_second']):,.0f}",
            single.milliseconds(median(lambda run: run["latency"]["p50"])),
            single.milliseconds(median(lambda run: run["latency"]["p99"]))]


HEAD = ["setting", "CPU a lookup", "lookups/s", "p50", "p99"]


def batch_delay(options):
    load = ["--connections", "16", "--rate", str(RATE)]
    rows = []
    for delay in DELAYS:
        print(f"lookup_batch_delay {delay}", file=sys.stderr)
        settings = f"lookup_batch_delay = {delay}\n"
        rows.append([f"`lookup_batch_delay = {delay}`", *drive(options, load, settings)])
    return figures.table(HEAD, rows)


def login_mode(options):
    rows = []
    for name, load in [("one login process with many clients: connections are kept", []),
                       ("a login process for each client: a connection for each login",
                        ["--connection-per-login"])]:
        print(name, file=sys.stderr)
        rows.append([name, *drive(options, ["--connections", "16", "--in-flight", "1", *load])])
    return figures.table(HEAD, rows)


def cores(options):
    """Needs a CPU for the generator besides: with two CPUs it would measure their sharing one."""
    free = [cpu for cpu in range(os.cpu_count()) if cpu != options.generator_cpu]
    if len(free) < 2:
        return (f"Not measured: this machine has {os.cpu_count()} CPUs, one of which is the generator's. "
                "What cores share, without sockets, is above.")
    rows = []
    for count in [1, 2, 4, 8, 16, 32]:
        if count > len(free):
            break
        print(f"cores {count}", file=sys.stderr)
        cpus = ",".join(map(str, free[:count]))
        rows.append([f"`cores = {count}`", *drive(options, CORES_LOAD, "", count, cpus)])
    return figures.table(HEAD, rows)
