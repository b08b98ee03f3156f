#!/usr/bin/env python3
"""Records placement vectors from a real Dovecot 2.3 director (README.md beside this file).

Usage, as root:  record_placement.py SCRATCH_DIR [LOOPBACK_ADDRESS]

Starts one stand-alone Dovecot per host list with its base directory in SCRATCH_DIR, asks it through
its director-admin socket, stops it, and rewrites the recorded *.tsv files beside this script. The
names and addresses asked about come from fixed seeds, so a second run asks the same questions.
"""

import os
import random
import socket
import subprocess
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))

# name of the list -> ([address, tag, vhosts, up], tags to ask with)
LISTS = {
    "even": ([(f"10.1.0.{n}", "", 100, True) for n in range(1, 6)], [""]),
    "weights": (
        [("10.1.0.1", "", 1, True), ("10.1.0.2", "", 10, True), ("10.1.0.3", "", 50, True),
         ("10.1.0.4", "", 100, True), ("10.1.0.5", "", 1000, True), ("10.1.0.6", "", 0, True)],
        [""],
    ),
    "down": (
        [(f"172.16.5.{n}", "", 80 + n, n != 3) for n in range(1, 8)],
        [""],
    ),
    "tags": (
        [("192.0.2.1", "", 100, True), ("192.0.2.2", "", 60, True), ("192.0.2.3", "east", 100, True),
         ("192.0.2.4", "east", 150, True), ("192.0.2.5", "east", 100, False),
         ("192.0.2.6", "west", 30, True), ("192.0.2.7", "west", 31, True),
         ("192.0.2.8", "a@b", 100, True), ("192.0.2.9", "off", 100, False)],
        ["", "east", "west", "a@b", "off", "none"],
    ),
    "ipv6": (
        [("9.10.11.12", "", 100, True), ("::0.1.0.2", "", 100, True), ("::ffff:10.0.0.9", "", 100, True),
         ("2001:db8::1:0:0:1", "", 100, True), ("2001:db8:0:1:1:1:1:1", "", 100, True),
         ("::1", "", 100, True), ("fe80::", "", 7, False)],
        [""],
    ),
    "large": (
        [(f"10.2.{n // 50}.{n % 50 + 1}", "", 37 * n % 211 + 1, n % 17 != 5) for n in range(120)],
        [""],
    ),
    "order": (
        [("10.0.0.9", "", 3, True), ("10.0.0.10", "", 2, True), ("9.255.255.255", "", 1, True),
         ("100.0.0.1", "", 4, True)],
        [""],
    ),
}

# director_username_hash values; the hash of every name in TEMPLATE_NAMES is recorded.
TEMPLATES = """%Lu %u %Ln %n %Ld %d %Uu %Mu %Ru %LRu %MRu %RMu %Tu %Eu %Du %Xu %Hu %Nu %LHu %HLu %HHu %NHu
%256Hu %2.256Hu %2.256Nu %9.7Nu %-2.256Hu %04Hu %012Nu %4.010Hu %08.256Hu %256HRu %4.256HRu %2.256HMu %3.256MHu
%3u %3.2u %-3u %0.3u %-2.2u %20u %020u %.3u %-4Lu %1.0u %0u %05Lu %03u %1.03u %5.04u %-5.2u %03.2u %05.08u
%4.Lu %3Mu %3Ru %08Xu %2Xu %1.3Xn %LULULULULUu %L% %% x%%y %Ln@%Ld %{user} %L{user} %3L{username} %{domain}
%{md5:user} %{sha1:user} %{sha256:username} %{sha384:user} %{sha512:domain} %4.6{sha256:user} %R{md5:user} %8M{user}
%{md5;truncate=12:user} %{md5;truncate=3:user} %{md5;truncate=128:user} %{md5;truncate=200:user} %{md5;truncate=0:user}
%{md5;salt=xy:user} %{md5;rounds=2:user} %{sha1;rounds=3,truncate=20,salt=xy:user} %{sha256;format=hex:user}
%{env:PLACEMENT} %L{env:PLACEMENT} %{env:PLACEMENT_UNSET} %{md5:env:PLACEMENT} %Ln-%{env:PLACEMENT}""".split()
TEMPLATES += ["a %Lu b"]
TEMPLATE_NAMES = [
    "", "a", "Alice.B@Example.Com", "@", "a@b@c", "ÜSÉR\"x'y\\z@É.example", " pad@both  ", "255", "18446744073709551615",
    "18446744073709551616", "007@7", "a-much-longer-user-name-than-most.people.have+tag@mail.example.co.uk",
]

LENIENT = """3 12 010 0x10 4294967295 4294967296 10.3 10.1.2 0x7f.1 010.0.0.3 10.0.0.010 10.0.0.08 1.2.3.4 1.2.3.256 1.2.3.4.5
1..2 1.2.3. .1.2 10.256 10.65536 10.16777215 10.16777216 0x7f000001 0x 0xg 08 1.08 [::1] ::1 [::1 ::1] :: [] [1.2.3.4]
::ffff:1.2.3.4 ::1.2.3.4 1::2::3 fe80::1%lo 2001:DB8::A -1 +3 1.+2 abc ::1%1 01.02.03.04 0x1.0x2.0X3.4 1.2.65535
1.2.65536 037777777777 040000000000 [[::1]] 00000000003 1.2.3.0x04 0.0.0.0 255.255.255.255 0000.0.0.1 1.2.3.0004
1.256 256.1 1.2.256 1.256.3 0x1.2.3.4.0 1:2:3:4:5:6:7:8 1:2:3:4:5:6:7:8:9 1:2:3:4:5:6:1.2.3.4 12345::1 ::00001""".split()
LENIENT += ["10.0.0.9 x", "3 x", " 3", " 10.0.0.9", "10.0.0.9x", "::1 x", "::1 ", "10.3 foo", "10.0.0.9 ", "3 ",
            "010 x", "010.0.0.1 ", "[::1] ", "0x1f y"]


def config(base, address, servers):
    return f"""base_dir = {base}
log_path = {base}.log
protocols =
ssl = no
listen = {address}
default_login_user = nobody
default_internal_user = dovecot
import_environment = TZ HOME PLACEMENT
director_servers =
director_mail_servers = {servers}
service auth {{
  unix_listener auth-login {{
    mode = 0
  }}
}}
service director {{
  user = root
  chroot =
  unix_listener login/director {{
    mode = 0666
  }}
  unix_listener director-admin {{
    mode = 0666
  }}
}}
passdb {{
  driver = static
  args = proxy=y nopassword=y
}}
"""


class Director:
    """A stand-alone director, and a connection to its admin socket."""

    def __init__(self, scratch, label, address, first):
        self.base = os.path.join(scratch, label)
        self.conf = self.base + ".conf"
        os.makedirs(self.base, exist_ok=True)
        with open(self.conf, "w") as f:
            f.write(config(self.base, address, first))
        subprocess.run(["dovecot", "-c", self.conf], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                       stderr=subprocess.DEVNULL, start_new_session=True, check=True)
        self.connect()

    def connect(self):
        path = self.base + "/director-admin"
        for _ in range(100):
            if os.path.exists(path):
                break
            time.sleep(0.05)
        s = socket.socket(socket.AF_UNIX)
        s.connect(path)
        s.settimeout(20)
        self.stream = s.makefile("rwb")
        self.stream.readline()
        self.stream.write(b"VERSION\tdirector-doveadm\t1\t0\n")

    def ask(self, *words):
        """One reply line without LF, or None when the director closes the connection."""
        line = b"\t".join(w if isinstance(w, bytes) else w.encode() for w in words)
        self.stream.write(line + b"\n")
        self.stream.flush()
        reply = self.stream.readline()
        return reply.decode().rstrip("\n") if reply else None

    def hosts(self):
        rows = []
        row = self.ask("HOST-LIST")
        while row:
            rows.append(row.split("\t"))
            row = self.stream.readline().decode().rstrip("\n")
        return rows

    def stop(self):
        self.stream.close()
        subprocess.run(["doveadm", "-c", self.conf, "stop"], capture_output=True)
        for _ in range(100):
            if not os.path.exists(self.base + "/master.pid"):
                break
            time.sleep(0.05)


def random_names(count):
    rng = random.Random(20230319)
    ascii_chars = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-_+"
    wide_chars = ascii_chars + "äöüßÄÖÜéèçñøåÅłŁžŽıİΣσΑωЖжЯя日本語郵便ქართ€𝒳🦀"
    domains = ["example.com", "Example.ORG", "MAIL.example.net", "bücher.example", "x", "a.b@c"]
    names = []
    while len(names) < count:
        chars = wide_chars if rng.random() < 0.35 else ascii_chars
        name = "".join(rng.choice(chars) for _ in range(rng.randint(1, 24)))
        if rng.random() < 0.05:
            name += " " + rng.choice(ascii_chars)
        if rng.random() < 0.6:
            name += "@" + rng.choice(domains)
        if not name.isdigit() and name not in names:  # an all-digit name is a hash for the director
            names.append(name)
    return names


def write(name, header, rows):
    with open(os.path.join(HERE, name), "w") as f:
        f.write("# recorded by record_placement.py from Dovecot "
                + subprocess.run(["dovecot", "--version"], capture_output=True, text=True).stdout.strip() + "\n")
        f.write("\t".join(header) + "\n")
        for row in rows:
            f.write("\t".join(row) + "\n")


def record_lists(scratch, address):
    names = random_names(1000)
    columns, answers, host_rows = [], [], []
    for label, (hosts, tags) in LISTS.items():
        first_ip, first_tag = hosts[0][0], hosts[0][1]
        d = Director(scratch, label, address, first_ip + ("@" + first_tag if first_tag else ""))
        for ip, tag, vhosts, up in hosts:
            place = ip + ("@" + tag if tag else "")
            assert d.ask("HOST-SET", place, str(vhosts)) == "OK", (label, place)
            if not up:
                assert d.ask("HOST-DOWN", ip) == "OK", (label, ip)
        for row in d.hosts():
            host_rows.append([label, row[0], row[1], row[3], row[4]])
        for tag in tags:
            columns.append(f"{label}:{tag}")
            answers.append([d.ask("USER-LOOKUP", n, tag).split("\t")[2] for n in names])
        d.stop()
    write("recorded_hosts.tsv", ["list", "ip", "vhosts", "tag", "state"], host_rows)
    write("recorded_users.tsv", ["name"] + columns, [[n] + list(a) for n, a in zip(names, zip(*answers))])


def record_templates(scratch):
    conf = os.path.join(scratch, "even.conf")
    env = dict(os.environ, PLACEMENT="Some Value@x")
    rows = []
    for template in TEMPLATES:
        for name in TEMPLATE_NAMES:
            r = subprocess.run(["doveadm", "-c", conf, "-o", f"director_username_hash={template}", "director", "map",
                                "-u", name], capture_output=True, text=True, env=env)
            words = r.stdout.split()
            assert words, (template, name, r)
            rows.append([template, name, words[-1]])
    write("recorded_templates.tsv", ["template", "name", "hash"], rows)


def record_addresses(scratch, address):
    d = Director(scratch, "addresses", address, "203.0.113.1")
    rows = []
    for text in LENIENT:
        if d.ask("HOST-SET", text, "1") is None:
            rows.append([text, ""])
            d.connect()
            continue
        new = [r[0] for r in d.hosts() if r[0] != "203.0.113.1"]
        assert len(new) == 1, (text, new)
        rows.append([text, new[0]])
        assert d.ask("HOST-REMOVE", new[0]) == "OK"
    write("recorded_lenient.tsv", ["text", "address"], rows)

    # Canonical text: what the director prints for an address given in full hexadecimal form.
    rng = random.Random(20230320)
    groups = [0, 0, 0, 0, 0, 1, 0xFFFF, 0xA, 0xDB8, 0x2001, 0xABCD]
    rows = []
    for _ in range(400):
        full = ":".join(f"{rng.choice(groups):04x}" for _ in range(8))
        if rng.random() < 0.3:
            full = ":".join(["0000"] * 5 + full.split(":")[5:])
        assert d.ask("HOST-SET", full, "1") == "OK", full
        new = [r[0] for r in d.hosts() if r[0] != "203.0.113.1"]
        rows.append([full, new[0]])
        assert d.ask("HOST-REMOVE", new[0]) == "OK"
    write("recorded_addresses.tsv", ["given", "printed"], rows)
    d.stop()


def main():
    scratch = os.path.abspath(sys.argv[1])
    address = sys.argv[2] if len(sys.argv) > 2 else "127.0.0.1"
    os.makedirs(scratch, exist_ok=True)
    record_lists(scratch, address)
    record_templates(scratch)
    record_addresses(scratch, address)


if __name__ == "__main__":
    main()
