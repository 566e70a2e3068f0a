#!/bin/sh
# The demo: a manager, edgeagent as its worker, a service that outlives the agent.
#
# Usage: demo.sh PROGRAM LAB
# The manager is the lab (tests/lab): no Docker is needed. `demo-docker.sh` does the same with a real dockerd.
# Everything is on loopback and in one folder below /tmp, and is removed at the end.
set -eu
PATH=$PATH:/usr/sbin:/sbin
PROGRAM=$(readlink -f "$1")
LAB=$(readlink -f "$2")
HERE=$(dirname "$(readlink -f "$0")")

if [ "$(id -u)" != 0 ]; then
    echo "The demo needs root: it starts containers."
    echo "Nothing was done. Try: sudo make demo"
    exit 0
fi

PREFIX=ea-$$
DIR=/tmp/$PREFIX
mkdir -p "$DIR/agent"
# The sweeper takes everything away as soon as this script is gone, however it goes.
mkfifo "$DIR/leash"
sh "$HERE/live/fixture/sweep.sh" "$PREFIX" "$DIR" <"$DIR/leash" &
SWEEPER=$!
exec 9>"$DIR/leash"
trap 'code=$?; exec 9>&-; wait $SWEEPER; exit $code' EXIT
trap 'exit 1' INT TERM

say() { printf '\n\033[1m# %s\033[0m\n' "$*"; }
show() { printf '$ %s\n' "$*"; "$@"; }
fail() { echo "The demo failed: $*" >&2; tail -n 15 "$DIR"/*/log "$DIR"/log >&2; exit 1; }
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
lab() { "$LAB" --dir "$DIR/lab" "$@"; }
edgeagent() { "$PROGRAM" --config "$DIR/agent/agent.json" "$@"; }
export EA_MARK="$PREFIX"

say "The lab becomes a manager: one process, one port, on loopback"
"$LAB" --dir "$DIR/lab" init --bind 127.0.0.1:0 --approval manual >"$DIR/log" 2>&1 9>&- &
await 10 "the lab" lab join-token
ADDR=$(sed -n 's/.*serving on \([0-9.:]*\)\. .*/\1/p' "$DIR/log")
TOKEN=$(lab join-token)
echo "it listens on $ADDR"

say "edgeagent joins, and waits until somebody lets it in"
# Without a bridge: this machine's own network stays as it is.
cat >"$DIR/agent/agent.json" <<END
{ "data-root": "$DIR/agent/data", "exec-root": "$DIR/agent/run", "cgroup-parent": "$PREFIX", "hostname": "edge",
  "bridge": "none" }
END
printf '$ edgeagent join --token SWMTKN-1-… %s\n' "$ADDR"
edgeagent join --token "$TOKEN" "$ADDR" 9>&- &
JOIN=$!
waiting() { lab node ls | awk '/pending/ { print $1; found = 1 } END { exit !found }'; }
await 10 "the node to ask" waiting
show lab node ls
show lab node accept "$(waiting)"
wait $JOIN || fail "join"
start_agent() { "$PROGRAM" --config "$DIR/agent/agent.json" run >>"$DIR/agent/log" 2>&1 9>&- & AGENT=$!; }
start_agent
ready() { lab node ls | grep -q ' edge  *Ready'; }
await 20 "the node to be Ready" ready
show lab node ls

say "An image is loaded from a file, and a service runs"
sh "$HERE/lab/image.sh" "$DIR/demo.tar"
show edgeagent image load -i "$DIR/demo.tar" || fail "image load"
# shellcheck disable=SC2016 # expanded in the container
show lab service create --name hello --env "EA_MARK=$PREFIX" demo:1 \
    sh -c 'i=0; trap "echo bye; exit 0" TERM; while :; do i=$((i+1)); echo "hello number $i from $(hostname)"; sleep 1 & wait; done'
running() { lab service ps hello | grep -q ' Running [0-9]'; }
await 20 "the task to run" running
talking() { lab service logs hello | grep -q 'number 2'; }
await 10 "its output" talking
show lab service ps hello
show lab service logs hello

say "The agent is killed with -9. Its container goes on"
PID=$(lab service ps --json hello | sed 's/.*"pid":\([0-9]*\).*/\1/')
kill -9 "$AGENT"
wait "$AGENT" 2>/dev/null || true
kill -0 "$PID" || fail "the container died with the agent"
echo "agent gone, container process $PID alive: $(tr '\0' ' ' <"/proc/$PID/cmdline" | cut -c 1-40)…"
start_agent
back() { edgeagent ps | grep -q running; }
await 20 "the agent to come back with its task" back
kill -0 "$PID" || fail "the container died when the agent came back"
show edgeagent ps
show edgeagent status

say "A manager that is not the swarm's is refused"
show lab evil cert-worker on
refused() { edgeagent status | grep -q 'not a manager of this swarm'; }
await 20 "the refusal" refused
edgeagent status | grep -m 1 'not a manager'
kill -0 "$PID" || fail "the container died with the link"
show lab evil none
await 30 "the node to be Ready again" ready

say "The service is removed, and the container with it"
show lab service rm hello
gone() { ! kill -0 "$PID"; }
await 30 "the container to end" gone
echo "process $PID is gone"
printf '\n\033[1mThe demo worked. All of it is being taken away.\033[0m\n'
