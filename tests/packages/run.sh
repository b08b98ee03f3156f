#!/bin/sh
# The Debian package on a fresh Debian 12 (Dovecot 2.3) and Debian 13 (Dovecot 2.4): installed, started by a real systemd
# beside a real Dovecot, used, upgraded, removed and purged. Needs root and debootstrap.
#
#   tests/packages/run.sh PACKAGE.deb [bookworm|trixie]
#
# systemd runs in namespaces of its own: processes, mounts, network with a loopback interface alone. All of it ends with
# its first process, and nothing is written but below a directory in /tmp and the cache of fresh systems.
set -eu

cache=/var/cache/homing
mirror=${HOMING_DEBIAN_MIRROR:-http://deb.debian.org/debian}
here=$(cd "$(dirname "$0")" && pwd)
# Seconds; everything that is waited for.
PATIENCE=90

package=$(realpath "$1")
releases=${2:-bookworm trixie}

say() {
    echo "tests/packages: $*" >&2
}

fail() {
    say "$release: $*"
    in_it journalctl --no-pager -q -b -n 100 -u homing -u dovecot -u dovecot-backends >&2 2> /dev/null || true
    say "FAILED"
    exit 1
}

# A fresh Debian with a real init, Dovecot and nothing configured. Made once.
fresh_root() {
    root=$cache/fresh-$1
    [ -e "$root.complete" ] && return
    rm -rf --one-file-system "$root" "$root.new"
    debootstrap --variant=minbase \
        --include=systemd-sysv,dovecot-imapd,dovecot-pop3d,dovecot-lmtpd \
        "$1" "$root.new" "$mirror" > "$root.log" 2>&1 || {
        tail -n 20 "$root.log" >&2
        say "debootstrap failed; another mirror: HOMING_DEBIAN_MIRROR=http://…"
        exit 1
    }
    rm -rf "$root.new/var/cache/apt/archives" "$root.new/var/lib/apt/lists"
    mv "$root.new" "$root"
    touch "$root.complete"
}

boot() {
    work=$(mktemp -d)
    mkdir "$work/layers" "$work/root"
    # The root stays as it is: all writes go to memory. $! is unshare; its child is the first process in there.
    unshare --mount --pid --net --ipc --uts --cgroup --fork --kill-child \
        sh "$here/boot.sh" "$cache/fresh-$release" "$work" > "$work/console" 2>&1 &
    unshare_pid=$!
    init_pid=
    wait_for "a first process" find_init
    wait_for "systemd" is_up
    inside=/proc/$init_pid/root
    nsenter -t "$init_pid" -n ip link set lo up
}

find_init() {
    init_pid=$(cat "/proc/$unshare_pid/task/$unshare_pid/children" 2> /dev/null | cut -d' ' -f1)
    [ -n "$init_pid" ] && [ "$(cat "/proc/$init_pid/comm" 2> /dev/null)" = systemd ]
}

is_up() {
    case $(in_it systemctl is-system-running 2> /dev/null) in
    running | degraded) ;;
    *) return 1 ;;
    esac
}

in_it() {
    nsenter -t "$init_pid" --mount --pid --net --ipc --uts --cgroup --root --wd env -i \
        PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LC_ALL=C.UTF-8 DEBIAN_FRONTEND=noninteractive "$@"
}

halt() {
    kill -KILL "$unshare_pid" 2> /dev/null || true
    wait "$unshare_pid" 2> /dev/null || true
    rm -rf --one-file-system "$work"
}

wait_for() {
    what=$1
    shift
    end=$(($(date +%s) + PATIENCE))
    until "$@"; do
        [ "$(date +%s)" -lt "$end" ] || {
            cat "$work/console" >&2
            fail "no $what within $PATIENCE s"
        }
        sleep 0.2
    done
}

# What must be so at once.
must() {
    "$@" || fail "failed: $*"
}

must_not() {
    if "$@"; then fail "succeeded: $*"; fi
}

exists() {
    in_it test -e "$1"
}

active() {
    in_it systemctl is-active -q "$1"
}

# A login by a client outside, through the proxy's imap-login, the director and a backend.
login() {
    nsenter -t "$init_pid" -n curl -s -m 30 -o "$work/reply" "imap://127.0.0.1/" -u "$1:any" &&
        grep -q INBOX "$work/reply"
}

backend_of() {
    in_it homing status "$1" --json | grep -o '"current": *"[^"]*"' | head -n 1
}

configure() {
    sed -i 's/^director_mail_servers = .*/director_mail_servers = "127.0.0.11-127.0.0.13"/' "$inside/etc/homing/homing.toml"
    # As it is installed it listens everywhere.
    must in_it systemctl stop dovecot
    version=$(in_it dovecot --version | cut -c1-3)
    cp "$here/proxy-$version.conf" "$inside/etc/dovecot/dovecot.conf"
    cp "$here/backends-$version.conf" "$inside/etc/dovecot/backends.conf"
    in_it mkdir -p /etc/systemd/system /srv/mail
    cp "$here/dovecot-backends.service" "$inside/etc/systemd/system/"
    in_it chown mail:mail /srv/mail
    in_it systemctl daemon-reload
    must in_it systemctl start dovecot-backends
}

install_it() {
    cp "$package" "$inside/root/homing.deb"
    must in_it dpkg -i /root/homing.deb > "$work/dpkg" 2>&1
    for file in /usr/bin/homing /usr/sbin/homing-upgrade /etc/homing/homing.toml /usr/share/man/man1/homing-status.1.gz \
        /usr/share/bash-completion/completions/homing /usr/share/doc/homing/examples/dovecot-2.4.conf; do
        must exists "$file"
    done
    must in_it getent passwd homing > "$work/passwd"
    must in_it homing check
    must in_it systemd-analyze verify homing.service
    # It has no settings that anybody has looked at.
    must_not active homing
    must_not in_it systemctl is-enabled -q homing
}

use_it() {
    configure
    must in_it systemctl start dovecot
    must in_it systemctl start homing
    wait_for "login of alice" login alice
    must login bob
    alice=$(backend_of alice)
    [ -n "$alice" ] || fail "alice has no backend"
    # Neither a restart of Dovecot nor one of Homing is felt by those who come after it.
    must in_it systemctl restart dovecot
    wait_for "login after Dovecot's restart" login alice
    [ "$(backend_of alice)" = "$alice" ] || fail "alice has moved at Dovecot's restart"
    must in_it systemctl reload homing
    must active homing
    must in_it systemctl restart homing
    wait_for "login after Homing's restart" login alice
    [ "$(backend_of alice)" = "$alice" ] || fail "alice has moved at Homing's restart"
    # What it keeps for a start after a power cut belongs to the main process, and to nobody else.
    must in_it homing state > "$work/state"
    [ "$(in_it stat -c '%U %a' /var/lib/homing/state)" = "dovecot 600" ] || fail "the state is not the director's"
    must in_it systemctl kill -s KILL --kill-whom=main homing
    wait_for "a start after a kill" login alice
    [ "$(backend_of alice)" = "$alice" ] || fail "alice has moved at a kill"
    must in_it sh -c 'journalctl -u homing -b | grep -q "users stay where they were"'
    # The main process is nobody special, and confined.
    main=$(in_it systemctl show -P MainPID homing)
    must in_it grep -q "^CapEff:	0000000000000000" "/proc/$main/status"
    must in_it grep -q "^Seccomp:	2" "/proc/$main/status"
    must in_it grep -q "^NoNewPrivs:	1" "/proc/$main/status"
    exposure=$(in_it systemd-analyze security --no-pager homing.service | sed -n 's/.*exposure level for homing.service: \([0-9.]*\).*/\1/p')
    say "$release: exposure by systemd-analyze: $exposure (0 is best, 10 worst)"
    [ "$(printf '%.0f' "$exposure")" -le 3 ] || fail "the unit is too open: $exposure"
}

upgrade_it() {
    before=$(in_it systemctl show -P MainPID homing)
    restarts=$(in_it systemctl show -P NRestarts homing)
    # Logins go on all the time, and none may fail.
    rm -f "$work/failed" "$work/enough"
    (while [ ! -e "$work/enough" ]; do login alice || echo failed >> "$work/failed"; done) &
    logins=$!
    must in_it dpkg -i /root/homing.deb > "$work/dpkg" 2>&1
    sleep 2
    touch "$work/enough"
    wait "$logins"
    [ ! -e "$work/failed" ] || fail "$(wc -l < "$work/failed") logins failed during an upgrade"
    [ "$(backend_of alice)" = "$alice" ] || fail "alice has moved at an upgrade"
    must active homing
    [ "$(in_it systemctl show -P NRestarts homing)" = "$restarts" ] || fail "it was restarted, not upgraded"
    must in_it sh -c 'journalctl -u homing -b | grep -q "has taken over"'
    grep -q '127.0.0.11-127.0.0.13' "$inside/etc/homing/homing.toml" || fail "settings were lost in an upgrade"
    wait_for "login after an upgrade" login alice
    [ "$(in_it systemctl show -P MainPID homing)" != "$before" ] || fail "the old program still runs after an upgrade"
}

remove_it() {
    must in_it dpkg -r homing > "$work/dpkg" 2>&1
    must_not active homing
    must_not exists /usr/bin/homing
    must_not exists /run/dovecot/login/director/auth
    must_not exists /run/dovecot/director-admin
    must exists /etc/homing/homing.toml
    must_not in_it sh -c 'grep -lx homing /proc/[0-9]*/comm'
    must in_it dpkg -P homing > "$work/dpkg" 2>&1
    must_not exists /etc/homing
    must_not exists /var/lib/homing
    must active dovecot
}

for release in $releases; do
    fresh_root "$release"
    trap 'halt' EXIT
    trap 'exit 130' INT TERM
    boot
    install_it
    use_it
    upgrade_it
    remove_it
    halt
    trap - EXIT
    say "$release: ok"
done
