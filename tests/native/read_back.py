"""Makes a histogram of the counts that `homing histogram --json` tells, with HdrHistogram's own Python
port, and checks `homing histogram --hgrm` against it.

read_back.py COUNTS.json DISTRIBUTION.hgrm
"""
import json
import re
import sys

from hdrh.histogram import HdrHistogram

LONGEST = 60_000_000_000  # as the director's histograms: a minute in nanoseconds
MICROS = 1000


def main(counts, distribution):
    whole = HdrHistogram(1, LONGEST, 2)
    with open(counts, encoding="utf-8") as file:
        for histogram in json.load(file):
            for nanos, count in histogram["counts"]:
                whole.record_value(nanos, count)
    with open(distribution, encoding="utf-8") as file:
        text = file.read()
    total = whole.get_total_count()
    rows = [line.split() for line in text.splitlines() if line.strip() and not line.startswith("#")]
    if rows[0] != ["Value", "Percentile", "TotalCount", "1/(1-Percentile)"]:
        sys.exit(f"the titles are {rows[0]}")
    for value, quantile, below, *_ in rows[1:]:
        # Two programs may round to neighbouring ranks.
        low, high = (
            whole.get_value_at_percentile(min(max(float(quantile) * 100 + step, 0), 100)) / MICROS
            for step in (-100 / total, 100 / total)
        )
        if not low - 0.001 <= float(value) <= high + 0.001:
            sys.exit(f"at {quantile}: {value}, and {low} to {high} by the counts")
        if not 0 < int(below) <= total:
            sys.exit(f"at {quantile}: {below} of {total}")
    last = rows[-1]
    if [float(last[0]) * MICROS, float(last[1]), int(last[2])] != [whole.get_max_value(), 1, total]:
        sys.exit(f"it ends with {last}")
    mean = float(re.search(r"#\[Mean +=  *([0-9.]+)", text)[1]) * MICROS
    if abs(mean - whole.get_mean_value()) > mean / 100:
        sys.exit(f"the mean is {mean}, and {whole.get_mean_value()} by the counts")
    print(total, "lookups")


main(*sys.argv[1:])
