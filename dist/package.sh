#!/bin/sh
# Packs what `cargo build --release` has built: dist/package.sh deb|rpm [DIRECTORY]. The package ends up in
# DIRECTORY, target/packages without one, and its path is printed. Needs debhelper, or rpm.
#
#   HOMING   the program; target/release/homing without it
set -eu
cd "$(dirname "$0")/.."

kind=${1:-}
out=${2:-target/packages}
homing=${HOMING:-target/release/homing}
work=target/package-$kind

fail() {
    echo "dist/package.sh: $*" >&2
    exit 1
}

need() {
    command -v "$1" > /dev/null || fail "$1 is missing: apt-get install $2"
}

[ -x "$homing" ] || fail "no program in $homing: cargo build --release"
version=$("$homing" --version | cut -d' ' -f2)

# What both kinds hold, in one place.
rm -rf "$work"
mkdir -p "$work/completions" "$out"
cp "$homing" "$work/homing"
cp -r README.md SECURITY.md CHANGELOG.md tuning.md LICENSE-MIT LICENSE-APACHE docs dist/homing.toml \
    dist/homing.service dist/homing.sysusers dist/homing-upgrade dist/dovecot "$work"
"$homing" man "$work/man"
"$homing" completions bash > "$work/completions/homing"
"$homing" completions zsh > "$work/completions/_homing"
"$homing" completions fish > "$work/completions/homing.fish"

case $kind in
deb)
    need dh debhelper
    cp -r dist/debian "$work/debian"
    cp dist/homing.service dist/homing.sysusers "$work/debian"
    mkdir -p "$work/debian/source"
    echo '3.0 (native)' > "$work/debian/source/format"
    # One place for the version: Cargo.toml. A package is native, so it has no revision.
    sed -i "1s/([^)]*)/($version)/" "$work/debian/changelog"
    (cd "$work" && dpkg-buildpackage --build=binary --no-sign > ../package-deb.log 2>&1) ||
        fail "dpkg-buildpackage failed, see target/package-deb.log"
    package=homing_${version}_$(dpkg --print-architecture).deb
    mv "target/$package" "$out/"
    rm -f target/homing_"$version"_*.buildinfo target/homing_"$version"_*.changes
    ;;
rpm)
    need rpmbuild rpm
    rpmbuild -bb --quiet --define "_topdir $PWD/$work/rpm" --define "homing_version $version" \
        --define "homing_files $PWD/$work" dist/rpm/homing.spec > target/package-rpm.log 2>&1 ||
        fail "rpmbuild failed, see target/package-rpm.log"
    package=$(basename "$work"/rpm/RPMS/*/homing-"$version"-*.rpm)
    mv "$work"/rpm/RPMS/*/"$package" "$out/"
    ;;
*)
    fail "deb or rpm?"
    ;;
esac
rm -rf "$work"
echo "$out/$package"
