#!/bin/sh
# Installs edgeagent from the folder that this script lies in; doing it again upgrades or changes nothing.
# Tasks of a running agent go on meanwhile. Needs nothing but a POSIX shell and the usual small tools.
set -eu
umask 022

usage() {
    cat <<'END'
Usage: ./install.sh [--root DIR] [--token-file FILE] [ADDR…]
       ./install.sh [--root DIR] --uninstall

  --root DIR         install into a mounted image of a device; nothing of it is run, so it may be of
                     another architecture
  --token-file FILE  the join token; with the managers' addresses ADDR… (host[:port]) the device joins
                     that swarm when the agent starts
  --uninstall        remove what was installed; agent.json and /var/lib/edgeagent stay
END
}
say() { printf 'install: %s\n' "$*"; }
die() { printf 'install: %s\n' "$*" >&2; exit "${code:-1}"; }
wrong() { code=2; die "$* (./install.sh --help tells more)"; }

root= token_file= uninstall=
while [ $# -gt 0 ]; do
    case $1 in
        --root | --token-file) [ $# -gt 1 ] && [ -n "$2" ] || wrong "$1 wants a value." ;;
    esac
    case $1 in
        --root) root=$2; shift 2 ;;
        --token-file) token_file=$2; shift 2 ;;
        --uninstall) uninstall=yes; shift ;;
        -h | --help) usage; exit 0 ;;
        --) shift; break ;;
        -*) wrong "$1 is no option." ;;
        *) break ;;
    esac
done
for address; do
    case $address in
        -*) wrong "options come before addresses: $address." ;;
        '' | *[!][A-Za-z0-9.:_%-]*) wrong "\"$address\" is no address." ;;
    esac
done
if [ -n "$uninstall" ]; then
    [ $# = 0 ] && [ -z "$token_file" ] || wrong '--uninstall takes neither a token nor addresses.'
elif [ -n "$token_file" ]; then
    [ $# -gt 0 ] || wrong 'a token wants the address of a manager.'
else
    [ $# = 0 ] || wrong 'an address wants --token-file.'
fi

if [ -n "$root" ]; then
    [ -d "$root" ] || die "there is no folder $root."
    root=$(cd "$root" && pwd -P)
    [ "$root" != / ] || root=
fi
live=; [ -n "$root" ] || live=yes
[ "$(id -u)" = 0 ] || [ -z "$live" ] || die 'only root can install here. Try: sudo ./install.sh'

# An image's links may point at files of this machine, and those are not meant.
inside() {
    path=$root
    rest=${1#/}
    while [ -n "$rest" ]; do
        path=$path/${rest%%/*}
        case $rest in */*) rest=${rest#*/} ;; *) rest= ;; esac
        if [ -n "$root" ] && [ -h "$path" ]; then
            case $(readlink "$path") in
                /* | *..*) die "$path is a link that may lead out of $root. Chroot into it and install there." ;;
            esac
        fi
    done
}
# put FILE PLACE MODE: by rename, so that a power cut leaves the old file or the new one.
put() {
    inside "$2"
    if cmp -s "$1" "$root$2"; then return; fi
    mkdir -p "$root${2%/*}"
    rm -f "$root$2.new"
    cp "$1" "$root$2.new"
    chmod "$3" "$root$2.new"
    [ "$(id -u)" != 0 ] || chown 0:0 "$root$2.new"
    mv -f "$root$2.new" "$root$2"
    say "$root$2"
    changed=yes
}
# link TARGET PLACE
link() {
    inside "${2%/*}"
    if [ "$(readlink "$root$2" 2>/dev/null)" = "$1" ]; then return; fi
    mkdir -p "$root${2%/*}"
    ln -sf "$1" "$root$2"
    say "$root$2 -> $1"
    changed=yes
}
remove() {
    for place; do
        inside "${place%/*}"
        if [ -e "$root$place" ] || [ -h "$root$place" ]; then rm -f "$root$place"; say "removed $root$place"; fi
    done
}
there() { [ -e "$root$1" ] || [ -h "$root$1" ]; }

if [ -n "$live" ] && [ -d /run/systemd/system ]; then init=systemd
elif there /usr/lib/systemd/systemd || there /lib/systemd/systemd; then init=systemd
elif there /sbin/openrc-run || there /usr/sbin/openrc-run; then init=openrc
elif there /etc/init.d; then init=busybox
else init=
fi
units=/usr/lib/systemd/system
there $units || ! there /lib/systemd/system || units=/lib/systemd/system
wants=/etc/systemd/system/multi-user.target.wants
unit_files='edgeagent.service edgeagent-join.path edgeagent-join.service'
docs=/usr/share/doc/edgeagent
started=; [ -z "$live" ] || [ ! -d /run/systemd/system ] || started=yes

if [ -n "$uninstall" ]; then
    if [ -n "$live" ] && there /usr/bin/edgeagent; then
        answer=0
        /usr/bin/edgeagent status >/dev/null 2>&1 || answer=$?
        [ $answer != 0 ] || die 'this node is in a swarm, and its tasks would go on. Run first: edgeagent leave'
    fi
    if [ -n "$started" ]; then
        systemctl --quiet disable --now edgeagent-join.path edgeagent.service 2>/dev/null || true
    elif [ -n "$live" ] && [ "$init" = openrc ] && there /etc/init.d/edgeagent; then
        rc-service --ifstarted edgeagent stop || true
    elif [ -n "$live" ] && there /etc/init.d/S90edgeagent; then
        /etc/init.d/S90edgeagent stop || true
    fi
    for unit in $unit_files; do
        remove "$wants/$unit" "/usr/lib/systemd/system/$unit"
        [ $units = /usr/lib/systemd/system ] || remove "$units/$unit"
    done
    remove /etc/runlevels/default/edgeagent /etc/init.d/edgeagent /etc/init.d/S90edgeagent
    # A token is good for every device of the fleet.
    remove /etc/edgeagent/join.json
    for file in LICENSE THIRD-PARTY.txt sbom.cdx.json agent.json; do remove "$docs/$file"; done
    inside $docs; rmdir "$root$docs" 2>/dev/null || true
    remove /usr/bin/edgeagent
    [ -z "$started" ] || systemctl daemon-reload
    say "done; $root/etc/edgeagent and $root/var/lib/edgeagent are left alone"
    exit 0
fi

join=
if [ -n "$token_file" ]; then
    # The file may be a pipe, so it is read once.
    if [ "$token_file" = - ]; then token=$(cat); else token=$(cat "$token_file") || die "the token can not be read."; fi
    case $token in
        SWMTKN-1-*[!A-Za-z0-9-]*) die "$token_file is not one line with a join token." ;;
        SWMTKN-1-?*) ;;
        *) die "$token_file holds no join token: it begins with SWMTKN-1-, and docker swarm join-token worker shows it." ;;
    esac
    addresses=
    for address; do addresses="$addresses${addresses:+, }\"$address\""; done
    join=$(mktemp)
    trap 'rm -f "$join"' EXIT
    printf '{ "token": "%s", "addresses": [%s] }\n' "$token" "$addresses" >"$join"
fi

cd "$(dirname "$0")"
if command -v sha256sum >/dev/null 2>&1; then
    sha256sum -c SHA256SUMS >/dev/null 2>&1 || die 'the files are not those of SHA256SUMS: unpack the tarball again.'
fi
if [ -n "$live" ]; then
    ./edgeagent version >/dev/null 2>&1 || die "this edgeagent does not run on $(uname -m): take the tarball of this machine's architecture."
fi

changed=
put edgeagent /usr/bin/edgeagent 0755
for file in LICENSE THIRD-PARTY.txt sbom.cdx.json agent.json; do
    # A tarball for tests has no SBOM.
    [ ! -f $file ] || put $file $docs/$file 0644
done
if [ -n "$join" ]; then
    inside /etc/edgeagent
    [ -d "$root/etc/edgeagent" ] || mkdir -p -m 0700 "$root/etc/edgeagent"
    (umask 077 && put "$join" /etc/edgeagent/join.json 0600)
fi
case $init in
    systemd)
        for unit in $unit_files; do put systemd/$unit $units/$unit 0644; done
        link $units/edgeagent.service $wants/edgeagent.service
        link $units/edgeagent-join.path $wants/edgeagent-join.path ;;
    openrc)
        put init/edgeagent.openrc /etc/init.d/edgeagent 0755
        link /etc/init.d/edgeagent /etc/runlevels/default/edgeagent ;;
    busybox) put init/S90edgeagent /etc/init.d/S90edgeagent 0755 ;;
esac
# What a device is flashed with, or loses power after, is on the disk.
sync

if [ -n "$started" ]; then
    systemctl daemon-reload
    systemctl start edgeagent-join.path
    if [ -n "$changed" ]; then systemctl restart edgeagent.service; else systemctl start edgeagent.service; fi
    say 'done, and the agent runs: edgeagent status'
elif [ -n "$init" ]; then
    say "done; $init starts the agent at the next boot"
else
    say 'done; no init system that is known here: let yours run /usr/bin/edgeagent run at boot'
fi
