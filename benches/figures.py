"""Medians with their confidence intervals, and Markdown tables: what all benches write their results with."""

import math
import os
import pathlib
import platform
import statistics
import subprocess

CONFIDENCE = 0.95


def interval(values):
    """Where the median of what the values were drawn from lies, with CONFIDENCE at least: the order
    statistics between which it falls whatever the distribution. None: too few values (below six)."""
    values, count = sorted(values), len(values)
    outside, rank = 2 * 0.5**count, 0
    while outside <= 1 - CONFIDENCE and rank < count / 2:
        rank += 1
        outside += 2 * math.comb(count, rank) * 0.5**count
    return (values[rank - 1], values[count - rank]) if rank else None


def spread(values, form="{:.2f}"):
    """The median and its interval, as text."""
    middle, around = statistics.median(values), interval(values)
    text = form.format(middle)
    if around:
        text += " (" + "..".join(form.format(value) for value in around) + ")"
    return text


def ratios(mine, theirs):
    """Of two lists of runs that were made in turns."""
    return [one / other for one, other in zip(mine, theirs)]


def table(head, rows):
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    lines += ["| " + " | ".join(str(cell) for cell in row) + " |" for row in rows]
    return "\n".join(lines)


def first_line(command):
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20)
    except OSError:
        return "none"
    return (done.stdout or done.stderr).strip().splitlines()[0]


def machine():
    """What the figures were taken on."""
    cpu = "unknown CPU"
    for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            cpu = line.split(":", 1)[1].strip()
            break
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") >> 30
    return (f"{cpu}, {os.cpu_count()} CPUs, {memory} GiB; Linux {platform.release()}; "
            f"Dovecot {first_line(['dovecot', '--version'])}; {first_line(['rustc', '--version'])}")


def load():
    """How much else the machine does: processes that run or want to."""
    return os.getloadavg()[0]


def favoured():
    """Arguments of subprocess for what is measured: a session of its own, which is as nice as we are.
    The kernel shares CPUs between sessions first (autogroup), whatever the niceness inside."""
    nice = os.getpriority(os.PRIO_PROCESS, 0)

    def prepare():
        group = pathlib.Path("/proc/self/autogroup")
        if nice and group.exists():
            group.write_text(str(nice))

    return {"start_new_session": True, "preexec_fn": prepare}
