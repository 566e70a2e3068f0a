#!/bin/sh
# Installs Debian's docker.io of two newer releases (dockerd 26.1 and 28.5) into folders of their own.
# Nothing outside of EA_ENGINES is touched. About 1 GB and a few minutes, once.
set -eu
PATH=$PATH:/usr/sbin:/sbin
BASE=${EA_ENGINES:-/var/tmp/edgeagent-engines}
MIRROR=${EA_MIRROR:-http://deb.debian.org/debian}

[ "$(id -u)" = 0 ] || { echo "needs root: nothing was done"; exit 0; }
command -v debootstrap >/dev/null || { apt-get update -qq && apt-get install -y -qq --no-install-recommends debootstrap >/dev/null; }

for suite in trixie forky; do
    dir=$BASE/$suite
    [ -e "$dir/.done" ] && continue
    echo "installing docker.io of Debian $suite into $dir"
    mkdir -p "$dir"
    # A release newer than this machine's debootstrap has no script of its own; sid's fits.
    script=
    [ -e "/usr/share/debootstrap/scripts/$suite" ] || script=/usr/share/debootstrap/scripts/sid
    # shellcheck disable=SC2086 # absent when empty
    debootstrap --variant=minbase "$suite" "$dir" "$MIRROR" $script >"$BASE/$suite.log" 2>&1
    printf '#!/bin/sh\nexit 101\n' >"$dir/usr/sbin/policy-rc.d"
    chmod +x "$dir/usr/sbin/policy-rc.d"
    cp /etc/resolv.conf "$dir/etc/"
    mount -t proc proc "$dir/proc"
    trap 'umount "$dir/proc"' EXIT
    {
        chroot "$dir" apt-get -o Acquire::Check-Valid-Until=false update
        DEBIAN_FRONTEND=noninteractive chroot "$dir" apt-get install -y --no-install-recommends \
            docker.io iptables ca-certificates nftables iproute2 procps
    } >>"$BASE/$suite.log" 2>&1
    umount "$dir/proc"
    trap - EXIT
    touch "$dir/.done"
done
