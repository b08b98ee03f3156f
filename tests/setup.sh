#!/bin/sh
# Installs what the end-to-end tests need, on Debian 12: Dovecot 2.3 from apt, a Debian 13 with
# Dovecot 2.4 in a root directory of its own, HdrHistogram's Python port, with which the load
# generator's results are read back, Prometheus' promtool, chromium and faketime. Safe to run again; does nothing when all is there.
#
#   HOMING_DEBIAN_MIRROR   where debootstrap gets Debian 13 from
set -eu

cache=/var/cache/homing
root=$cache/trixie
complete=$cache/trixie.complete
mirror=${HOMING_DEBIAN_MIRROR:-http://deb.debian.org/debian}
dovecot_packages="dovecot-core dovecot-imapd dovecot-pop3d dovecot-lmtpd dovecot-submissiond \
dovecot-managesieved"
hdrhistogram=$cache/hdrhistogram
hdrhistogram_version=0.10.8
other_packages="python3 python3-venv curl debootstrap debian-archive-keyring ca-certificates util-linux mount \
build-essential iproute2 debhelper rpm prometheus chromium chromium-driver fonts-dejavu-core faketime"

say() {
	echo "tests/setup.sh: $*" >&2
}

fail() {
	say "$*"
	exit 1
}

missing_packages() {
	for package in $dovecot_packages $other_packages; do
		status=$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null || true)
		[ "$status" = installed ] || printf '%s ' "$package"
	done
}

# A package that is installed must not start its service: the tests start their own Dovecots, and
# this machine did not ask for a mail server.
install_packages() {
	policy=/usr/sbin/policy-rc.d
	had_dovecot=$(dpkg-query -W -f '${db:Status-Status}' dovecot-core 2>/dev/null || true)
	made_policy=
	if [ ! -e "$policy" ]; then
		printf '#!/bin/sh\nexit 101\n' >"$policy"
		chmod 755 "$policy"
		made_policy=$policy
		trap 'rm -f "$made_policy"' EXIT
		trap 'exit 1' INT TERM HUP
	fi
	export DEBIAN_FRONTEND=noninteractive
	apt-get update -q
	# shellcheck disable=SC2086 # a list of words
	apt-get install -q -y --no-install-recommends $1
	if [ -n "$made_policy" ]; then
		rm -f "$made_policy"
		trap - EXIT INT TERM HUP
	fi
	if [ "$had_dovecot" != installed ] && command -v systemctl >/dev/null; then
		# Nor may it start at the next boot.
		systemctl disable dovecot.service dovecot.socket >/dev/null 2>&1 || true
		systemctl disable prometheus.service >/dev/null 2>&1 || true
	fi
}

version_24() {
	chroot "$1" /usr/sbin/dovecot --version 2>/dev/null || true
}

is_mounted_below() {
	grep -q " $1/" /proc/self/mounts
}

# Builds the root beside its place and moves it there when it works, so that an interrupted run
# never looks like a finished one.
make_root() {
	new=$root.new
	for old in "$root" "$new"; do
		[ -e "$old" ] || continue
		if is_mounted_below "$old"; then
			fail "something is mounted below $old, which is unfinished: unmount it, then run this again"
		fi
		rm -rf --one-file-system "$old"
	done
	packages=$(echo "$dovecot_packages" | tr -s ' ' ,)
	debootstrap --variant=minbase --include="$packages" trixie "$new" "$mirror" >&2 ||
		fail "debootstrap failed; see $new/debootstrap/debootstrap.log. Another mirror: \
HOMING_DEBIAN_MIRROR=http://… tests/setup.sh"
	rm -rf "$new/var/cache/apt/archives" "$new/var/lib/apt/lists"
	case $(version_24 "$new") in
	2.4.*) mv "$new" "$root" ;;
	*) fail "the new root in $new has no working Dovecot 2.4" ;;
	esac
}

# The marker is written only when the dovecot in there answers.
check_root() {
	version=$(version_24 "$root")
	case $version in
	2.4.*) [ ! -e "$root/debootstrap" ] && echo "$version" >"$complete" ;;
	*) return 1 ;;
	esac
}

has_hdrhistogram() {
	"$hdrhistogram/bin/python" -c 'import hdrh.log' 2>/dev/null
}

# Also for those who are not root, elsewhere: LOADGEN_HDRHISTOGRAM_PYTHON names its Python.
make_hdrhistogram() {
	rm -rf "$hdrhistogram"
	python3 -m venv "$hdrhistogram"
	"$hdrhistogram/bin/pip" install -q --disable-pip-version-check \
		"hdrhistogram==$hdrhistogram_version" ||
		fail "pip could not install hdrhistogram $hdrhistogram_version from PyPI"
	has_hdrhistogram || fail "hdrhistogram in $hdrhistogram does not work"
}

not_root() {
	bad=
	packages=$(missing_packages)
	if [ -n "$packages" ]; then
		say "missing packages; as root: apt-get install --no-install-recommends $packages"
		bad=1
	fi
	if [ ! -e "$complete" ]; then
		say "no Debian 13 root in $root; as root: tests/setup.sh"
		bad=1
	fi
	if ! has_hdrhistogram; then
		say "no hdrhistogram for Python in $hdrhistogram; as root: tests/setup.sh"
		bad=1
	fi
	say "the end-to-end tests themselves need root too, and fail without"
	[ -z "$bad" ]
	exit
}

[ "$(id -u)" = 0 ] || not_root
command -v apt-get >/dev/null || fail "this needs Debian 12 (it has the last Dovecot with a director)"

mkdir -p "$cache"
exec 9>"$cache/setup.lock"
flock 9

packages=$(missing_packages)
[ -z "$packages" ] || install_packages "$packages"
case $(dovecot --version) in
2.3.*) ;;
*) fail "dovecot --version says $(dovecot --version); the tests need 2.3 as in Debian 12" ;;
esac
[ -e "$complete" ] && [ -n "$(version_24 "$root")" ] || check_root || {
	make_root
	check_root || fail "Dovecot 2.4 in $root does not work"
}
has_hdrhistogram || make_hdrhistogram
say "Dovecot $(dovecot --version | cut -d' ' -f1) here, $(version_24 "$root" | cut -d' ' -f1) in $root"
