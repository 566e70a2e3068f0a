#!/bin/sh
# Boots this machine's own systemd as the first process of namespaces of its own.
#
# Usage: boot.sh NAME FOLDER, in the network namespace of its host.
# It sees this machine's programs below an overlay that is gone with it, none of this machine's units,
# and FOLDER/share at /mnt, FOLDER/data at /var/lib/edgeagent. Its cgroups are below NAME. What it says
# goes to standard output. /proc/sys and /sys are read-only: at boot, systemd changes some of it.
set -eu
export EA_NAME="$1" EA_FOLDER="$2"

# 1. Cgroups of its own, in each hierarchy that there is.
awk '$3 == "cgroup" || $3 == "cgroup2" { print $2 }' /proc/self/mounts | while read -r hierarchy; do
    mine=$hierarchy/$EA_NAME
    mkdir -p "$mine"
    for file in cpuset.cpus cpuset.mems; do
        # Of the first version these begin empty, and nothing may enter then.
        [ ! -e "$hierarchy/cgroup.clone_children" ] || [ ! -e "$mine/$file" ] || cat "$hierarchy/$file" >"$mine/$file"
    done
    echo $$ >"$mine/cgroup.procs"
done

# 2. Namespaces.
exec unshare --mount --pid --cgroup --ipc --fork --kill-child sh -euc '
mount --make-rprivate /
awk '\''$3 == "cgroup" { split($4, o, ","); for (i in o) if (o[i] !~ /^(rw|relatime|nosuid|nodev|noexec)$/ && o[i] !~ /^(clone_children|xattr)/) print $2, o[i] }
      $3 == "cgroup2" { print $2, "" }'\'' /proc/self/mounts >"$EA_FOLDER/hierarchies"

# 3. The overlay; its upper side is no part of its lower one.
mkdir -p "$EA_FOLDER/memory" "$EA_FOLDER/root" "$EA_FOLDER/share" "$EA_FOLDER/data"
mount -t tmpfs -o mode=755 tmpfs "$EA_FOLDER/memory"
mkdir "$EA_FOLDER/memory/upper" "$EA_FOLDER/memory/work"
mount -t overlay overlay -o "lowerdir=/,upperdir=$EA_FOLDER/memory/upper,workdir=$EA_FOLDER/memory/work" "$EA_FOLDER/root"
cd "$EA_FOLDER/root"
mount -t proc proc proc
mount --bind proc/sys proc/sys
mount -o remount,bind,ro proc/sys
mount --bind proc/sys/net proc/sys/net
mount -o remount,bind,rw proc/sys/net
mount -t sysfs -o ro sysfs sys
for place in run tmp dev usr/lib/systemd/system-generators; do mount -t tmpfs -o mode=755 tmpfs $place; done
# systemd takes its name from there.
hostname >etc/hostname
mkdir -p var/lib/edgeagent
mount --bind "$EA_FOLDER/share" mnt
mount --bind "$EA_FOLDER/data" var/lib/edgeagent

# 4. Devices.
mkdir dev/pts dev/shm
mount -t devpts -o newinstance,ptmxmode=0666 devpts dev/pts
mount -t tmpfs tmpfs dev/shm
mknod -m 666 dev/null c 1 3
mknod -m 666 dev/zero c 1 5
mknod -m 666 dev/full c 1 7
mknod -m 666 dev/random c 1 8
mknod -m 666 dev/urandom c 1 9
mknod -m 666 dev/tty c 5 0
ln -s pts/ptmx dev/ptmx
ln -s /proc/self/fd dev/fd
# What systemd tells the kernel, this shell hears.
mkfifo dev/kmsg

# 5. The same hierarchies of cgroups, with ours as their roots.
[ "$(wc -l <"$EA_FOLDER/hierarchies")" = 1 ] || mount -t tmpfs -o mode=755 tmpfs sys/fs/cgroup
while read -r place option; do
    mkdir -p "./$place"
    case $option in
        "") mount -t cgroup2 cgroup2 "./$place" ;;
        name=*) mount -t cgroup -o "none,$option" cgroup "./$place" ;;
        *) mount -t cgroup -o "$option" cgroup "./$place" ;;
    esac
done <"$EA_FOLDER/hierarchies"

# 6. No unit but targets and slices.
mkdir tmp/units
cp usr/lib/systemd/system/*.target usr/lib/systemd/system/*.slice tmp/units
mount -t tmpfs -o mode=755 tmpfs usr/lib/systemd/system
mount -t tmpfs -o mode=755 tmpfs etc/systemd
cp -P tmp/units/* usr/lib/systemd/system
rm -r tmp/units

cat <>dev/kmsg &
exec chroot . env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin container=test SYSTEMD_LOG_TARGET=kmsg \
    /usr/lib/systemd/systemd --unit=multi-user.target
'
