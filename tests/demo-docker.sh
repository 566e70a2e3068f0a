#!/bin/sh
# The demo: a stock dockerd as manager, edgeagent as its worker, a service that outlives the agent.
#
# Usage: demo-docker.sh PROGRAM
# Each machine is a network namespace; everything lives in one folder below /tmp and is removed at the end.
set -eu
PATH=$PATH:/usr/sbin:/sbin
PROGRAM=$(readlink -f "$1")
HERE=$(dirname "$(readlink -f "$0")")

if [ "$(id -u)" != 0 ]; then
    echo "The demo needs root: it makes network namespaces, runs dockerd and starts containers."
    echo "Nothing was done. Try: sudo make demo"
    exit 0
fi

PREFIX=ea-$$
DIR=/tmp/$PREFIX
mkdir -p "$DIR/agent" "$DIR/manager"
# The sweeper takes everything away as soon as this script is gone, however it goes.
mkfifo "$DIR/leash"
sh "$HERE/live/fixture/sweep.sh" "$PREFIX" "$DIR" <"$DIR/leash" &
SWEEPER=$!
exec 9>"$DIR/leash"
trap 'code=$?; exec 9>&-; wait $SWEEPER; exit $code' EXIT
trap 'exit 1' INT TERM

say() { printf '\n\033[1m# %s\033[0m\n' "$*"; }
show() { printf '$ %s\n' "$*"; "$@"; }
fail() { echo "The demo failed: $*" >&2; tail -n 15 "$DIR"/*/log >&2; exit 1; }
# await SECONDS WHAT COMMAND…: until the command succeeds
await() {
    limit=$1 what=$2; shift 2
    n=0
    until "$@" >/dev/null 2>&1; do
        n=$((n + 1))
        [ $n -lt $((limit * 10)) ] || fail "waited ${limit} s in vain for $what"
        sleep 0.1
    done
}
on() { # on HOST COMMAND…: runs it there; its process id is the command's own
    host=$1; shift
    # shellcheck disable=SC2016 # expanded by the inner shell
    exec nsenter --net=/run/netns/"$PREFIX-$host" unshare --uts sh -c 'hostname "$0" && exec "$@"' "$host" "$@"
}
docker() { /usr/bin/docker -H "unix://$DIR/manager/docker.sock" "$@"; }
edgeagent() { (on edge "$PROGRAM" --config "$DIR/agent/agent.json" "$@"); }

say "Two machines on a switch (network namespaces)"
ip netns add "$PREFIX-sw"
ip -n "$PREFIX-sw" link add br0 type bridge
ip -n "$PREFIX-sw" link set br0 up
n=10
for host in manager edge; do
    ip netns add "$PREFIX-$host"
    ip -n "$PREFIX-$host" link set lo up
    ip -n "$PREFIX-sw" link add p-$host type veth peer name eth0 netns "$PREFIX-$host"
    ip -n "$PREFIX-sw" link set p-$host master br0 up
    ip -n "$PREFIX-$host" addr add 10.79.0.$n/24 dev eth0
    ip -n "$PREFIX-$host" link set eth0 up
    echo "$host: 10.79.0.$n"
    n=$((n + 1))
done

say "A stock dockerd becomes a manager"
(on manager dockerd --data-root "$DIR/manager/data" --exec-root "$DIR/manager/exec" --pidfile "$DIR/manager/pid" \
    -H "unix://$DIR/manager/docker.sock" --bridge=none --iptables=false) >"$DIR/manager/log" 2>&1 9>&- &
await 60 "dockerd" docker version
show docker swarm init --advertise-addr 10.79.0.10 >/dev/null
docker version --format 'dockerd {{.Server.Version}}'
TOKEN=$(docker swarm join-token -q worker)

say "edgeagent joins"
cat >"$DIR/agent/agent.json" <<END
{ "data-root": "$DIR/agent/data", "exec-root": "$DIR/agent/run" }
END
printf '$ edgeagent join --token SWMTKN-1-… 10.79.0.10:2377\n'
edgeagent join --token "$TOKEN" 10.79.0.10:2377 || fail "join"
start_agent() { (on edge "$PROGRAM" --config "$DIR/agent/agent.json" run) >>"$DIR/agent/log" 2>&1 9>&- & AGENT=$!; }
start_agent
await 20 "the node to be Ready" sh -c "/usr/bin/docker -H unix://$DIR/manager/docker.sock node ls --format '{{.Hostname}} {{.Status}}' | grep -q '^edge Ready'"
show docker node ls

say "An image is loaded from a file, and a service runs"
mkdir -p "$DIR/rootfs/bin"
cp /bin/busybox "$DIR/rootfs/bin/"
for a in sh echo date sleep hostname; do ln -s busybox "$DIR/rootfs/bin/$a"; done
tar -C "$DIR/rootfs" -c . | docker import -c 'ENV PATH=/bin' - demo:1 >/dev/null
docker save -o "$DIR/demo.tar" demo:1
show edgeagent image load -i "$DIR/demo.tar" || fail "image load"
show docker service create --quiet --detach --no-resolve-image --name hello --env "EA_MARK=$PREFIX" \
    --constraint node.hostname==edge demo:1 \
    sh -c 'i=0; trap "echo bye; exit 0" TERM; while :; do i=$((i+1)); echo "hello number $i from $(hostname)"; sleep 1 & wait; done'
running() { docker service ps hello --format '{{.CurrentState}}' | grep -q '^Running'; }
await 20 "the task to run" running
await 10 "its output" sh -c "/usr/bin/docker -H unix://$DIR/manager/docker.sock service logs hello 2>&1 | grep -q 'number 2'"
show docker service ps hello
show docker service logs hello

say "The agent is killed with -9. Its container goes on"
PID=$(docker inspect --type task -f '{{.Status.ContainerStatus.PID}}' "$(docker service ps -q hello | head -n 1)")
kill -9 "$AGENT"
wait "$AGENT" 2>/dev/null || true
kill -0 "$PID" || fail "the container died with the agent"
echo "agent gone, container process $PID alive: $(tr '\0' ' ' <"/proc/$PID/cmdline" | cut -c 1-40)…"
start_agent
await 20 "the agent to come back" edgeagent ps
kill -0 "$PID" || fail "the container died when the agent came back"
await 20 "the task in edgeagent ps" sh -c "nsenter --net=/run/netns/$PREFIX-edge '$PROGRAM' --config '$DIR/agent/agent.json' ps | grep -q running"
show edgeagent ps
show edgeagent status

say "Nothing listens on the edge machine"
test -z "$(ip netns exec "$PREFIX-edge" ss -H -lntu)" || fail "something listens"
echo "ss -lntu: no line"

say "The service is removed, and the container with it"
show docker service rm hello
await 20 "the container to end" sh -c "! kill -0 $PID"
echo "process $PID is gone"
printf '\n\033[1mThe demo worked. All of it is being taken away.\033[0m\n'
