#!/bin/sh
# Checkpoint and restore, on a machine where CRIU works: run as root in a throw-away guest with busybox and criu.
#
#   checkpoint.sh BOXWRIGHT BUSYBOX
#
# Prints TAP; the status is 0 if all passed.

boxwright=$1 busybox=$2
top=$(mktemp -d)
number=0 failed=0

ok() { # ok TEXT COMMAND…
    text=$1
    shift
    number=$((number + 1))
    if "$@"; then echo "ok $number - $text"; else echo "not ok $number - $text"; failed=1; fi
}

call() { "$boxwright" --root "$top/state" "$@" </dev/null >"$top/out" 2>&1 || { sed 's/^/# /' "$top/out"; return 1; }; }

# a bundle whose program counts in a file of a tmpfs of its own, and in one that is bound from the host
bundle() { # bundle NAME [MORE-OF-LINUX]
    mkdir -p "$top/$1/rootfs/bin" "$top/$1/rootfs/proc" "$top/$1/rootfs/dev" "$top/$1/rootfs/tmp" \
        "$top/$1/rootfs/data" "$top/data"
    cp "$busybox" "$top/$1/rootfs/bin/busybox"
    for name in sh sleep cat mv; do ln -sf busybox "$top/$1/rootfs/bin/$name"; done
    cat >"$top/$1/config.json" <<END
{"ociVersion": "1.0.2", "hostname": "box",
 "process": {"args": ["/bin/sh", "-c", "i=0; while :; do i=\$((i + 1)); echo \$i >/tmp/count; echo \$i >/data/new; mv /data/new /data/count; sleep 0.1; done"],
             "env": ["PATH=/bin"], "cwd": "/", "user": {"uid": 0, "gid": 0}},
 "root": {"path": "rootfs"},
 "mounts": [{"destination": "/proc", "type": "proc", "source": "proc"},
            {"destination": "/dev", "type": "tmpfs", "source": "tmpfs"},
            {"destination": "/dev/pts", "type": "devpts", "source": "devpts", "options": ["newinstance", "ptmxmode=0666"]},
            {"destination": "/tmp", "type": "tmpfs", "source": "tmpfs"},
            {"destination": "/data", "type": "bind", "source": "$top/data", "options": ["rbind"]}],
 "linux": {"maskedPaths": ["/proc/kcore"], "readonlyPaths": ["/proc/sys"],
           "resources": {"pids": {"limit": 30}},
           "namespaces": [{"type": "pid"}, {"type": "mount"}, {"type": "ipc"}, {"type": "uts"}, {"type": "network"}]}}
END
}

soon() { # soon COMMAND…: within twenty seconds
    for _ in $(seq 100); do
        "$@" && return 0
        sleep 0.2
    done
    return 1
}
count() { cat "$top/data/count" 2>/dev/null || echo 0; }
more_than() { [ "$(count)" -gt "$1" ]; }
counts() { # whether it goes on from MINIMUM
    before=$(count)
    [ "$before" -ge "$1" ] || { echo "# it is at $before, not at $1"; return 1; }
    soon more_than "$before" || { echo "# it stays at $before"; return 1; }
}
logs() { tail -n 15 "$1" 2>/dev/null | sed 's/^/# /'; return 1; }
status() { "$boxwright" --root "$top/state" state "$1" 2>/dev/null | grep -q "\"status\": *\"$2\""; }
groups() { # groups ID [FILE]: the directories of a container's groups, of whichever version, or a file in each
    find /sys/fs/cgroup -type d -name "$1" | while read -r directory; do
        [ -z "$2" ] && echo "$directory"
        [ -e "$directory/$2" ] && [ -n "$2" ] && echo "$directory/$2"
    done
}
all_hold() { # all_hold LINE FILE…
    line=$1
    shift
    [ $# -gt 0 ] || return 1
    for file; do grep -qx "$line" "$file" || { echo "# not in $file"; return 1; }; done
}
gone() { ! "$boxwright" --root "$top/state" state "$1" >/dev/null 2>&1; }

bundle one
ok "a container runs" call run --detach --bundle "$top/one" c1
ok "it counts" soon more_than 3
ok "it is dumped and goes on" call checkpoint --leave-running --image-path "$top/left" c1 || logs "$top/left/dump.log"
ok "it still counts" counts 3
ok "its memory alone is dumped first" call checkpoint --pre-dump --image-path "$top/images/first" c1 ||
    logs "$top/images/first/dump.log"
ok "then all of it" call checkpoint --parent-path ../first --image-path "$top/images/second" c1 ||
    logs "$top/images/second/dump.log"
at=$(count)
ok "it is deleted by that" gone c1
sleep 1
ok "and counts no more" [ "$(count)" -eq "$at" ]
ok "it is restored under another id" call restore --detach --bundle "$top/one" --image-path "$top/images/second" c2 ||
    logs "$top/images/second/restore.log"
ok "its state is running" status c2 running
ok "it goes on where it was" counts "$at"
ok "exec joins it" call exec c2 /bin/cat /tmp/count
ok "its limit is in force" grep -qx 30 $(groups c2 pids.max)
ok "its groups hold it" all_hold "$(cat "$top/state/c2/criu.pid")" $(groups c2 cgroup.procs)
ok "it is killed" call kill c2 KILL
soon status c2 stopped
ok "and deleted" call delete c2
ok "nothing is mounted of it" sh -c "! grep -q $top/state /proc/self/mountinfo"
ok "its groups are gone" [ -z "$(groups c2)" ]

"$boxwright" --root "$top/state" restore --bundle "$top/one" --image-path "$top/images/second" c3 </dev/null >"$top/foreground" 2>&1 &
restoring=$!
ok "in the foreground it runs as well" soon status c3 running || sed 's/^/# /' "$top/foreground"
ok "killed, it gives its status" sh -c "'$boxwright' --root '$top/state' kill c3 KILL"
wait $restoring
status=$?
ok "which is 137" [ $status -eq 137 ] || { echo "# it is $status"; logs "$top/images/second/restore.log"; }
ok "and it is gone" gone c3

rm "$top"/images/second/pages-*.img
"$boxwright" --root "$top/state" restore --bundle "$top/one" --image-path "$top/images/second" c4 </dev/null >"$top/out" 2>&1
ok "images that are damaged cannot be restored" [ $? -eq 1 ]
ok "which is told in CRIU's words" grep -q "said: .*Error" "$top/out" || sed 's/^/# /' "$top/out"
ok "and leaves nothing" sh -c "[ ! -e '$top/state/c4' ] && [ -z '$(groups c4)' ]"
echo "1..$number"
exit $failed
