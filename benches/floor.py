"""What Homing does beyond a relay that looks at nothing, measured alone, and whether the whole costs
more than the two together: criterion's group `work` (benches/director/work.rs) and side_by_side.py."""

import json
import pathlib
import statistics
import subprocess
import sys

import figures
import side_by_side as single

# Case, and how many logins one read brings in it at most.
CASES = [("16 x 32", 32), ("16 x 1", 1), ("1000 x 4", 4), ("connection per login, 16", 1)]
LIMIT = 1.2
CRITERION_LIMIT = 3600  # seconds, in which it may have to be compiled


def criterion(root, pattern):
    """Runs the benches whose names begin so, and leaves their figures for `nanoseconds`."""
    command = ["cargo", "bench", "--quiet", "--bench", "director", "--", pattern]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=CRITERION_LIMIT)
    if done.returncode != 0:
        sys.exit(f"{' '.join(command)}\n{done.stdout}{done.stderr}")


def nanoseconds(target, name):
    """Median CPU time of one iteration."""
    path = pathlib.Path(target) / "criterion" / name / "new" / "estimates.json"
    return json.loads(path.read_text())["median"]["point_estimate"]


def work(target):
    """Microseconds for each login, by how many come together."""
    per_login = lambda count: nanoseconds(target, f"work/logins_{count}_together") / count / 1000
    return {count: per_login(count) for count in (1, 4, 32)}


def table(results, works):
    head = ["case", "null relay", "work", "Homing", f"Homing / (null relay + work), {LIMIT} at most"]
    rows = []
    for case, together in CASES:
        null, homing = ([single.cpu(run) for run in results[case, name]]
                        for name in ("null relay", "homing"))
        ratios = [one / (floor + works[together]) for one, floor in zip(homing, null)]
        rows.append([case, f"{statistics.median(null):.2f} µs", f"{works[together]:.2f} µs",
                     f"{statistics.median(homing):.2f} µs", figures.spread(ratios)])
    return figures.table(head, rows)
