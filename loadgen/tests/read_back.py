"""Reads an interval log and a percentile distribution with HdrHistogram's own Python port, checks
one against the other, and prints what is in them as JSON.

read_back.py LOG.hlog DISTRIBUTION.hgrm
"""
import json
import sys

from hdrh.histogram import HdrHistogram
from hdrh.log import HistogramLogReader

LONGEST = 600_000_000_000  # as loadgen's histograms: ten minutes in nanoseconds
MICROS = 1000


def intervals(path):
    reader = HistogramLogReader(path, HdrHistogram(1, LONGEST, 3))
    while True:
        histogram = reader.get_next_interval_histogram()
        if histogram is None:
            return
        yield histogram


def main(log, distribution):
    whole = HdrHistogram(1, LONGEST, 3)
    found = []
    for histogram in intervals(log):
        whole.add(histogram)
        found.append({
            "begin": histogram.get_start_time_stamp() / 1000,
            "end": histogram.get_end_time_stamp() / 1000,
            "count": histogram.get_total_count(),
            "max": histogram.get_max_value() / MICROS,
        })
    with open(distribution, encoding="utf-8") as file:
        rows = [line.split() for line in file if line.strip() and not line.startswith("#")]
    step = 100 / whole.get_total_count()
    for value, quantile, *_ in rows[1:]:
        # Three digits are kept, and two programs may round to neighbouring ranks.
        percentile = float(quantile) * 100
        low = whole.get_value_at_percentile(max(percentile - step, 0)) / MICROS
        high = whole.get_value_at_percentile(min(percentile + step, 100)) / MICROS
        if not low * 0.998 - 0.001 <= float(value) <= high * 1.002 + 0.001:
            sys.exit(f"at {quantile}: {value} in the distribution, {low} to {high} in the log")
    print(json.dumps({
        "intervals": found,
        "rows": len(rows) - 1,
        "count": whole.get_total_count(),
        "max": whole.get_max_value() / MICROS,
        "last": [float(word) for word in rows[-1]],
    }))


main(*sys.argv[1:])
