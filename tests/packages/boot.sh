#!/bin/sh
# boot.sh ROOT WORK: systemd with ROOT as its root directory, whose writes are kept in memory. The caller has made the namespaces.
set -e
root=$1 work=$2
mount --make-rprivate /
mount -t tmpfs -o mode=0755 tmpfs "$work/layers"
mkdir "$work/layers/upper" "$work/layers/work"
mount -t overlay -o "lowerdir=$root,upperdir=$work/layers/upper,workdir=$work/layers/work" overlay "$work/root"
cd "$work/root"
mount -t proc proc proc
mount -t sysfs -o ro sysfs sys
# Some machines mix both kinds of control groups; newer systemds want the second alone.
mount -t cgroup2 cgroup2 sys/fs/cgroup
mount -t tmpfs -o mode=0755 tmpfs run
mount -t tmpfs -o mode=1777 tmpfs tmp
mount -t tmpfs -o mode=0755 tmpfs dev
mknod -m 0666 dev/null c 1 3
mknod -m 0666 dev/zero c 1 5
mknod -m 0666 dev/full c 1 7
mknod -m 0666 dev/random c 1 8
mknod -m 0666 dev/urandom c 1 9
mknod -m 0666 dev/tty c 5 0
mkdir dev/shm dev/pts
mount -t tmpfs -o mode=1777 tmpfs dev/shm
mount -t devpts -o newinstance,ptmxmode=0666,mode=620 devpts dev/pts
ln -s pts/ptmx dev/ptmx
ln -s /proc/self/fd dev/fd
: > etc/machine-id
# Not chroot: systemd gives its services mount namespaces of their own, made of its root.
mkdir -p old
pivot_root . old
exec env -i container=homing-test PATH=/usr/sbin:/usr/bin:/sbin:/bin chroot . /bin/sh -c \
    'umount -l /old && rmdir /old && exec /lib/systemd/systemd --unit=multi-user.target --show-status=false'
