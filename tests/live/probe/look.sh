# Prints all that a container can see of itself, one fact a line.
#
# It runs in the container, under busybox. What is random by nature is replaced here where only the container
# knows it (numbers of pipes, devices and peers, addresses on the bridge, MACs), and by the test where the
# manager knows it (ids and names). Nothing here may change anything outside of the container.
here=$(pwd)
part() { name=$1; shift; "$@" 2>&1 | sed "s|^|$name: |"; }
# Pipes, sockets and namespaces have numbers of their own.
unnumbered() { sed -E -e 's/(pipe|socket|anon_inode|mnt|net|uts|ipc|pid|cgroup):\[[0-9]+\]/\1/'; }
# Field 1 of a line names a file; its content follows, in one line.
values() { for f in "$@"; do [ -e "$f" ] && echo "$f $(cat "$f" 2>&1 | sed 's/^cat: [^:]*: //' | tr '\n' '|')"; done; }
mounts() {
    # Place, kind, options of mount, propagation (without the number of the peer group; only of bind mounts, for
    # runc leaves the root and volumes slaves of the host's, and ours are private) and options of the file system without those that name the engine's folders or depend on the machine's memory.
    sed -E -e 's/^[0-9]+ [0-9]+ [0-9:]+ [^ ]+ ([^ ]+) ([^ ]+) (.*)- ([^ ]+) [^ ]+ (.*)$/\1 \4 \2 \3\5/' \
        -e 's/(shared|master|propagate_from):[0-9]+/\1/g' -e '/^.bound /!s/ (shared|master)//g' \
        -e 's/(lowerdir|upperdir|workdir|index|xino|redirect_dir|metacopy|size=[0-9]+k,nr_inodes|uuid)=[^,]*,?//g' \
        -e 's/,inode64//' -e 's/,+$//' /proc/1/mountinfo | sort
}
writable() { for f in "$@"; do
    [ -e "$f" ] || continue
    if [ -d "$f" ]; then (echo x > "$f/.probe") 2> /dev/null; else (true >> "$f") 2> /dev/null; fi &&
        echo "$f yes" || echo "$f no"
done; }
masked() { for f in /proc/acpi /proc/asound /proc/interrupts /proc/kcore /proc/keys /proc/latency_stats /proc/timer_list \
    /proc/timer_stats /proc/sched_debug /proc/scsi /sys/firmware /sys/devices/virtual/powercap \
    /sys/devices/system/cpu/cpu0/thermal_throttle; do
    [ -e $f ] || continue
    if [ -d $f ]; then echo "$f $(ls $f | wc -l)"; else echo "$f $(stat -c %t,%T $f) $(head -c 1 $f | wc -c)"; fi
done; }
# Is a namespace one of its own? Those of the first process of the machine have fixed numbers.
namespaces() { for n in cgroup:4026531835 ipc:4026531839 pid:4026531836 time:4026531834 user:4026531837 uts:4026531838; do
    case $(readlink /proc/self/ns/${n%:*}) in *"[${n#*:}]") echo "${n%:*} the host's" ;; *) echo "${n%:*} own" ;; esac
done; }
# A place on the bridge is as random as its MAC. The gateway is 172.17.0.1 under both.
place() { sed -E -e 's/^network: [0-9]+: eth0/network: N: eth0/' -e 's/@if[0-9]+//' -e 's/172[.]17[.]0[.]([2-9]|[1-9][0-9]+)/PLACE/g' \
    -e 's/02:42:ac:11:..:../MAC/' -e 's/ link-netnsid [0-9]+//' -e 's/ (used|age)[^ ]* [^ ]*//'; }

part argument printf '%s\n' "$#" "$@"
ls -d . > /dev/null || echo "cwd: broken"
part fds sh -c 'ls /proc/self/fd | tr "\n" " "'
part env env | grep -v -e '^env: EA_' -e '^env: HOSTNAME=' | sort
echo "order: $(tr '\0' '\n' 2>&1 < /proc/1/environ | sed 's/=.*//' | tr '\n' ' ')"
echo "home: $(echo ~) $HOME"
echo "cwd: $here $(readlink /proc/1/cwd)"
part id id
part umask umask
# Not: memory in use, counts of switches, ids that the kernel chose, the CPUs of the machine.
part status sh -c 'grep -v -E "^(Vm|Rss|Hugetlb|Threads|SigQ|SigPnd|ShdPnd|Pid|Tgid|Ngid|PPid|FDSize|NStgid|NSpid|NSpgid|NSsid|Kthread|State|Name|Core|.*ctxt)" /proc/1/status | tr -s "\t " " "'
part first sh -c 'echo $(cat /proc/1/comm) $(tr "\0" "|" < /proc/1/cmdline) $(readlink /proc/1/exe) $(readlink /proc/1/root)'
part stat sh -c 'sed "s/.*) //" /proc/1/stat | cut -d " " -f 2-6,16-17,38-39'
part limits sed -e 's/  */ /g' /proc/1/limits
part oom cat /proc/1/oom_score_adj
part proc values /proc/1/coredump_filter /proc/1/timerslack_ns /proc/1/loginuid /proc/1/attr/current /proc/1/uid_map /proc/1/gid_map \
    /proc/1/setgroups /proc/1/personality
part tty tty
[ -t 0 ] && part tty stty -a
# Through a file: the pipes of a shell that is the first process would be among what it has open.
find /proc/1/fd -mindepth 1 -exec stat -c %N {} + -exec stat -L -c '%n %A %u:%g %t,%T' {} + > /dev/shm/open 2>&1
part open unnumbered < /dev/shm/open
rm /dev/shm/open
case $(readlink /proc/1/fd/0) in /dev/null) part stdin sh -c 'head -c 1 < /proc/1/fd/0 2>&1 | wc -c' ;; esac
part mount mounts
part dev sh -c 'find /dev -xdev -exec stat -c "%A %u:%g %t,%T %N" {} + | sed -e "s|/dev/pts/[0-9]*|/dev/pts/N|" | sort'
# Every file but those of the kernel and busybox itself; of regular ones also size and content.
part tree sh -c 'find / \( -path /proc -o -path /sys -o -path /dev -o -path /bin -o -path /usr/share \) -prune -o -exec stat -c "%A %u:%g %N" {} +'
part content sh -c 'find / \( -path /proc -o -path /sys -o -path /dev -o -path /bin -o -path /usr/share -o -path /etc/hosts -o -path /etc/hostname \
    -o -path /etc/resolv.conf -o -path /etc/made -o -path /run/secrets/hidden \) -prune -o -type f -exec md5sum {} +'
[ -e /etc/made ] && part made cat /etc/made /run/secrets/hidden
part time sh -c 'stat -c "%Y %n" /data/seed /data/folder/inner /data/link'
part cgroups sh -c 'cut -d : -f 2- /proc/1/cgroup'
part cgroup sh -c 'ls -l /sys/fs/cgroup | awk "{ print \$1, \$3, \$4, \$9, \$10, \$11 }"'
part namespace namespaces
part hosts place < /etc/hosts
# Not `hostname -d`: without an nsswitch.conf it asks a name server first, and says "Unknown host" when the
# kernel's limit for ICMP swallows the refusal; whom /etc/hosts names is looked at above.
part names sh -c 'hostname; cat /etc/hostname; echo $HOSTNAME'
part resolv grep -v -e '^#' /etc/resolv.conf
part writable writable / /etc /etc/hosts /etc/hostname /etc/resolv.conf /etc/passwd /proc/sys/kernel/shmmax /proc/sysrq-trigger /proc/irq \
    /proc/bus /proc/fs /sys /sys/fs/cgroup /sys/fs/cgroup/memory /dev /dev/shm /dev/mqueue /tmp /run /scratch /data /data/seed /home/app
part masked masked
if ip addr show dev eth0 2> /dev/null | grep -q 172.17.0; then
    part network ip addr | place
    part network ip route | place
    part network ip -6 route | place
    part network ip rule
    part sysctl grep -s -H -r . /proc/sys/net | grep -v -e tcp_fastopen_key -e _mem: -e 'max: [0-9]' -e orphans -e /neigh/ -e conntrack_count
fi
part interface sh -c 'tail -n +3 /proc/net/dev | cut -d : -f 1 | tr -d " " | sort'
part value values /proc/sys/kernel/shmmax /proc/sys/kernel/shmall /proc/sys/kernel/shmmni /proc/sys/kernel/msgmax /proc/sys/kernel/msgmnb \
    /proc/sys/kernel/sem /proc/sys/kernel/shm_rmid_forced /proc/sys/fs/mqueue/* /proc/sys/kernel/hostname /proc/sys/kernel/domainname
cd /sys/fs/cgroup && part value values memory/memory.limit_in_bytes memory/memory.memsw.limit_in_bytes memory/memory.soft_limit_in_bytes \
    memory/memory.swappiness memory/memory.kmem.limit_in_bytes memory/memory.use_hierarchy cpu/cpu.cfs_quota_us cpu/cpu.cfs_period_us \
    cpu/cpu.shares pids/pids.max cpuset/cpuset.cpus cpuset/cpuset.mems blkio/blkio.bfq.weight freezer/freezer.state net_cls/net_cls.classid \
    memory.max memory.swap.max memory.low cpu.max cpu.weight pids.max cpuset.cpus
part devices sort /sys/fs/cgroup/devices/devices.list
part oomkill head -n 1 /sys/fs/cgroup/memory/memory.oom_control
# What the kernel answers. The clock is not asked: it is the machine's.
cd /tmp
part call sh -c 'for c in "unshare -U true" "unshare -m true" "unshare -n true" "unshare -u true" "unshare -i true" "unshare -p true" \
    "mount -t tmpfs x /tmp" "mount -t proc x /tmp" "mount -o bind / /tmp" "mount -o remount,bind,rw /sys" "umount /dev/shm" \
    "mknod /tmp/kmsg c 1 11" "head -c 1 /tmp/kmsg" "mknod /tmp/null c 1 3" "cat /tmp/null" "mknod /tmp/disk b 8 0" "head -c 1 /tmp/disk" \
    "mkfifo /tmp/fifo" "hostname x" "chroot / true" "pivot_root / /tmp" "chown 1:1 /tmp/fifo" "chmod u+s /tmp/fifo" \
    "ping -c 1 -W 1 127.0.0.1" "nice -n -5 true" "renice -n -5 1" "chrt -f 1 true" "ionice -c 1 true" "dmesg" "swapoff /x" \
    "losetup -f" "nsenter -t 1 -m true" "setpriv --nnp true" "su app -s /bin/sh -c true" "kill -0 1" "/trace" "/trace 1" \
    "cat /proc/1/environ" "ls /proc/1/cwd/" "ls /proc/1/map_files" "cat /proc/1/syscall" "ipcs" \
    "ip link set lo mtu 60000" "ip addr add 127.0.0.9/8 dev lo" "arp -s 10.0.0.1 00:11:22:33:44:55"; do
    $c > /dev/null 2>&1 < /dev/null; echo "$c -> $?"
done'
echo end: end
