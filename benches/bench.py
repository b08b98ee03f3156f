#!/usr/bin/env python3
"""`make bench`: measures everything that tuning.md says of speed, and writes benches/results.md.

    benches/bench.py [--rounds 10] [--seconds 2] [--nice -10]

Needs root, Dovecot 2.3, two CPUs, and what `make bench` builds before.
Ends with status 1, and leaves the old results, if anything could not be measured.
"""

import argparse
import datetime
import json
import os
import pathlib
import statistics
import sys
import tempfile

import figures
import floor
import knobs
import ring
import side_by_side as single

ROOT = pathlib.Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benches" / "results.md"

# Homing's share of Dovecot's CPU time for each lookup, at most. The last case is about its p99.
LIMITS = {
    "16 x 32": 0.17,
    "16 x 1": 0.68,
    "1000 x 4": 0.42,
    "connection per login, 16": 0.7,
    "authreply 16 x 32": 0.2,
    "open loop, 150,000/s": None,
}
P99_CASE, P99_LIMIT = "open loop, 150,000/s", 0.15
NEW_LIMIT, NEW_BYTES = 0.25, 28
RING_LIMITS = "0.2 and 0.12"
# The new users are no case of these runs: they want a director that knows nobody.
CASES = [case for case in single.CASES if case[1] != "new"]
RELAYS = [("16 x 32", "login"), ("16 x 1", "login"), ("1000 x 4", "login"),
          ("connection per login, 16", "login")]


def verdict(ratios, limit):
    return "yes" if statistics.median(ratios) <= limit else "**no**"


def of(results, case, name, get):
    return [get(run) for run in results.get((case, name), [])]


def p99(run):
    return run["latency"]["p99"]


def director_table(results):
    head = ["case", "Dovecot", "null relay", "Homing", "Homing / Dovecot", "at most", "reached",
            "p99 Dovecot", "p99 Homing"]
    rows = []
    middle = lambda values: f"{statistics.median(values):.2f} µs" if values else ""
    for case, _, _ in CASES:
        mine, theirs = (of(results, case, name, single.cpu) for name in ("homing", "dovecot"))
        ratios, limit = figures.ratios(mine, theirs), LIMITS[case]
        late = [single.milliseconds(statistics.median(of(results, case, name, p99)))
                for name in ("dovecot", "homing")]
        rows.append([case, middle(theirs), middle(of(results, case, "null relay", single.cpu)),
                     middle(mine), figures.spread(ratios), limit or "",
                     verdict(ratios, limit) if limit else "", *late])
    mine, theirs = (of(results, P99_CASE, name, p99) for name in ("homing", "dovecot"))
    ratios = figures.ratios(mine, theirs)
    rows.append([f"p99 of {P99_CASE}", single.milliseconds(statistics.median(theirs)), "",
                 single.milliseconds(statistics.median(mine)), figures.spread(ratios, "{:.3f}"),
                 P99_LIMIT, verdict(ratios, P99_LIMIT), "", ""])
    return figures.table(head, rows)


def relay_table(results):
    rows = []
    for case, _ in RELAYS:
        epoll, uring = (of(results, case, name, single.cpu)
                        for name in ("null relay", "io_uring relay"))
        rows.append([case, figures.spread(epoll), figures.spread(uring),
                     figures.spread(figures.ratios(uring, epoll))])
    return figures.table(["case", "epoll, µs", "io_uring, µs", "io_uring / epoll"], rows)


def new_users(options):
    """Runs in which nobody is known at the beginning, by target."""
    load = ["--connections", "16", "--in-flight", "32"]
    runs = {"dovecot": [], "homing": []}
    start = {
        "dovecot": lambda directory: single.start_dovecot(directory, options.target_cpu),
        "homing": lambda directory: single.start_homing(directory, options.target_cpu,
                                                        options.homing),
    }
    for number in range(options.rounds):
        for name in runs:
            print(f"round {number + 1}: {options.new_users:,} new users: {name}", file=sys.stderr)
            with tempfile.TemporaryDirectory(prefix="bench-") as directory:
                directory = pathlib.Path(directory)
                directory.chmod(0o755)
                target = start[name](directory)
                try:
                    runs[name].append(single.drive(target, "new", load, options, directory))
                finally:
                    target.stop()
    return runs


def new_table(runs):
    mine, theirs = ([single.cpu(run) for run in runs[name]] for name in ("homing", "dovecot"))
    memory = {name: statistics.median(run["target"]["bytes_per_new_user"] for run in runs[name])
              for name in runs}
    ratios = figures.ratios(mine, theirs)
    rows = [
        ["CPU a lookup", f"{statistics.median(theirs):.2f} µs", f"{statistics.median(mine):.2f} µs",
         figures.spread(ratios), NEW_LIMIT, verdict(ratios, NEW_LIMIT)],
        ["bytes a user", f"{memory['dovecot']:.0f}", f"{memory['homing']:.1f}", "", NEW_BYTES,
         "yes" if memory["homing"] <= NEW_BYTES else "**no**"],
    ]
    return figures.table(["", "Dovecot", "Homing", "ratio", "at most", "reached"], rows)


def threads_table():
    one, two, apart = (floor.nanoseconds(options_target(), f"lookup/known_user_{name}")
                       for name in ("1_threads", "2_threads", "2_apart"))
    load = floor.nanoseconds(options_target(), "snapshot/load_unchanged")
    head = ["", "one thread", "two threads, each", "two that share nothing, each",
            "what sharing costs"]
    rows = [["a lookup among a million users", f"{one:.0f} ns", f"{two:.0f} ns", f"{apart:.0f} ns",
             f"{two / apart:.2f}"],
            ["the snapshot, unchanged", f"{load:.1f} ns", "the same: nothing is written", "", ""]]
    return figures.table(head, rows)


def options_target():
    return os.environ.get("CARGO_TARGET_DIR", ROOT / "target")


def sections(options):
    """Title and text of each part, in order; each takes its time."""
    results = single.measure(options, CASES)
    keep(options, results)
    yield "Beside Dovecot", director_table(results)
    yield "All runs of these cases", single.table(
        results, dict.fromkeys(name for _, name in results), options.rounds)
    yield "epoll or io_uring", relay_table(results)
    yield f"{options.new_users:,} new users, 16 x 32", new_table(new_users(options))
    yield (f"A ring of {options.directors}, all logins at one of them, {options.rate:,} a second, "
           f"summed over the directors (to be reached: {RING_LIMITS})",
           ring.table(ring.measure(options)))
    yield f"`lookup_batch_delay`, {knobs.RATE:,} logins a second", knobs.batch_delay(options)
    yield "Login mode", knobs.login_mode(options)
    yield "Cores", knobs.cores(options)
    for group in ("work/", "lookup/known_user", "snapshot/load"):
        print(f"criterion: {group}", file=sys.stderr)
        floor.criterion(ROOT, group)
    yield "Beside the floor", floor.table(results, floor.work(options_target()))
    yield "One thread and two", threads_table()


def keep(options, results):
    """Every run in full, beside what cargo builds."""
    runs = [{"case": case, "target": name, "runs": runs} for (case, name), runs in results.items()]
    path = pathlib.Path(options_target()) / "bench.json"
    path.write_text(json.dumps(runs))
    print(f"all runs are in {path}", file=sys.stderr)


def arguments():
    target = pathlib.Path(options_target())
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--knob-rounds", type=int, default=3, help="runs for each setting tried")
    parser.add_argument("--seconds", type=float, default=2.0, help="measured time of one run")
    parser.add_argument("--new-users", type=int, default=2_000_000)
    parser.add_argument("--rate", type=int, default=40_000, help="logins a second into the ring")
    parser.add_argument("--directors", type=int, default=3)
    parser.add_argument("--target-cpu", type=int, default=0)
    parser.add_argument("--generator-cpu", type=int, default=1)
    parser.add_argument("--nice", type=int, default=0,
                        help="below 0 on a machine that does other work")
    parser.add_argument("--binaries", type=pathlib.Path, default=target / "release",
                        help="where homing, loadgen and the relays are")
    parser.set_defaults(no_dovecot=False, uring=True)
    options = parser.parse_args()
    options.homing = str(options.binaries / "homing")
    return options


def main():
    options = arguments()
    if os.cpu_count() < 2 or options.target_cpu == options.generator_cpu:
        sys.exit("the director and the generator need a CPU each")
    try:
        os.nice(options.nice)
    except OSError as error:
        sys.exit(f"--nice {options.nice}: {error}; below 0 needs root")
    before = figures.load()
    parts = []
    for title, text in sections(options):
        parts.append(f"## {title}\n\n{text}\n")
        print(parts[-1], file=sys.stderr)
    when = datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d")
    head = f"""# What `make bench` measured

Written by `benches/bench.py`; tuning.md says what follows from it. {when}, {options.rounds} rounds of
{options.seconds:g} s, all targets of a case in turns in each. Figures are medians; behind them in brackets is
where the median lies with 95 % confidence (order statistics, from six rounds on). CPU time is that of the
director's process for each lookup, director and generator on a CPU each.

Machine: {figures.machine()}. Processes that ran or wanted to: {before:.1f} before, {figures.load():.1f} after;
with more than two or three the CPUs were shared, and only the ratios say something.
"""
    RESULTS.write_text(head + "\n" + "\n".join(parts))
    print(RESULTS.read_text())


if __name__ == "__main__":
    main()
