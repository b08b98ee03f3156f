#!/bin/sh
# enter-root.sh ROOT SITE PROGRAM ARG...
# Runs a program inside ROOT, with the directory SITE at the same path in there. The caller has made
# a mount and a PID namespace, so that nothing mounted here is seen or left behind outside.
set -e
root=$1 site=$2
shift 2
mount -t tmpfs -o mode=1777 tmpfs "$root/tmp"
mkdir -p "$root$site"
mount --bind "$site" "$root$site"
mount --rbind /dev "$root/dev"
mount -t proc proc "$root/proc"
exec chroot "$root" "$@"
