#!/bin/sh
# Namespaces of its own for podman, and commands in them. The machine's network, mounts and control groups stay as they are.
#
#   enter.sh start GROUP ROOT [FOLDER=PLACE...]   become the first process of new namespaces whose root is the folder ROOT;
#                                                 each FOLDER of this machine is seen there, read-only, at PLACE
#   enter.sh run GROUP PID PLACE COMMAND...       run a command there: "inside"; "building" keeps this machine's network,
#                                                 "beside" has the network of inside and the files of this machine
#   enter.sh clean GROUP                          remove the control groups once nothing runs in them
#
# GROUP is a name. Control groups are version 1, as limits of pods need controllers that a version 2 beside it has not.
set -eu

hierarchies() { # of this process: the folder of its own group in each
  while IFS=: read -r _ controllers path; do
    [ -n "$controllers" ] || continue # version 2 beside the others: it has no controllers
    echo "/sys/fs/cgroup/${controllers#name=}$path"
  done < /proc/self/cgroup
}

join() { # GROUP: make it where it is missing, and move into it
  hierarchies | while read -r folder; do
    mkdir -p "$folder/$1"
    for file in cpuset.cpus cpuset.mems; do # a new group has none, and nothing runs without
      [ ! -e "$folder/$file" ] || cat "$folder/$file" > "$folder/$1/$file"
    done
    echo $$ > "$folder/$1/cgroup.procs"
  done
}

case $1 in
  start)
    if [ ! -d /sys/fs/cgroup/memory ]; then
      echo "control groups of version 1 are needed; this machine mounts version 2 alone" >&2
      exit 3
    fi
    group=$2
    shift 2
    join "$group"
    exec unshare --mount --pid --fork --kill-child --net --cgroup --uts --ipc sh "$0" inside "$@"
    ;;
  inside)
    root=$2
    shift 2
    mount --make-rprivate /
    mount --bind "$root" "$root"
    mount -t proc proc "$root/proc"
    mount -t sysfs sysfs "$root/sys"
    mount --rbind /dev "$root/dev"
    mount -t tmpfs -o mode=1777 tmpfs "$root/dev/shm"
    mount -t tmpfs -o mode=755 tmpfs "$root/run"
    mount -t tmpfs -o mode=755 tmpfs "$root/sys/fs/cgroup"
    while IFS=: read -r _ controllers _; do
      [ -n "$controllers" ] || continue
      mkdir "$root/sys/fs/cgroup/${controllers#name=}"
      case $controllers in name=*) options=none,$controllers ;; *) options=$controllers ;; esac
      mount -t cgroup -o "$options" cgroup "$root/sys/fs/cgroup/${controllers#name=}"
    done < /proc/self/cgroup
    for pair in "$@"; do
      mkdir -p "$root${pair#*=}"
      mount --bind "${pair%%=*}" "$root${pair#*=}"
      mount -o remount,bind,ro "$root${pair#*=}"
    done
    cat /etc/resolv.conf > "$root/etc/resolv.conf"
    cd "$root"
    mkdir -p .before
    pivot_root . .before
    exec chroot . sh -c 'umount -l /.before && rmdir /.before && hostname node && ip link set lo up && exec catatonit -P'
    ;;
  run)
    group=$2 pid=$3 place=$4
    shift 4
    case $place in
      beside) exec nsenter --target "$pid" --net "$@" ;;
      inside) set -- --net "$@" ;;
    esac
    join "$group"
    exec nsenter --target "$pid" --mount --pid --cgroup --uts --ipc --root --wd "$@"
    ;;
  clean)
    hierarchies | while read -r folder; do
      [ ! -d "$folder/$2" ] || find "$folder/$2" -depth -type d -exec rmdir {} +
    done
    ;;
esac
