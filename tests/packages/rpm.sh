#!/bin/sh
# rpm.sh PACKAGE.rpm: what the RPM holds, unpacked by rpm into an empty directory. Its scripts need a system of its own
# kind, which is not to be had here; they are only parsed.
set -eu
package=$1
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
fail() {
    echo "tests/packages/rpm.sh: $*" >&2
    exit 1
}

rpm --root "$dir" --initdb
rpm --root "$dir" --install --nodeps --noscripts "$package"
for file in usr/bin/homing etc/homing/homing.toml usr/lib/systemd/system/homing.service usr/lib/sysusers.d/homing.conf \
    usr/share/man/man1/homing-status.1 usr/share/doc/homing/README.md usr/share/doc/homing/examples/dovecot-2.3.conf; do
    ls "$dir/$file" > /dev/null 2>&1 || ls "$dir/$file".gz > /dev/null || fail "no $file in the package"
done
"$dir/usr/bin/homing" check -c "$dir/etc/homing/homing.toml" || fail "the settings in the package are wrong"
rpm -qp --configfiles "$package" | grep -qx /etc/homing/homing.toml || fail "settings would be overwritten in an upgrade"
rpm -qp --scripts "$package" > "$dir/scripts"
grep -q 'disable --now homing.service' "$dir/scripts" || fail "the service would outlive its removal"
rpm --root "$dir" --erase --noscripts homing
[ ! -e "$dir/usr/bin/homing" ] || fail "the program is still there after removal"
echo "tests/packages/rpm.sh: ok"
