#!/bin/sh
# enter-root.sh ROOT SITE HOMING PROGRAM ARG...
# Runs a program inside ROOT, with the directory SITE at the same path in there, and the program
# HOMING as SITE/homing. The caller has made a mount and a PID namespace, so that nothing mounted here
# is seen or left behind outside.
set -e
root=$1 site=$2 homing=$3
shift 3
mount -t tmpfs -o mode=1777 tmpfs "$root/tmp"
mkdir -p "$root$site"
mount --bind "$site" "$root$site"
: >> "$root$site/homing"
mount --bind "$homing" "$root$site/homing"
mount --rbind /dev "$root/dev"
mount -t proc proc "$root/proc"
mount --rbind /sys "$root/sys"
exec chroot "$root" "$@"
