#!/usr/bin/env bash
# Becomes the process of a container: pod.sh ROOT VOLUMES READ_ONLY USER GROUP COMMAND...
#
# It runs in a network and with mounts of its own. The root is the machine's, with everything that is
# written to it thrown away, or nothing to be written to it; VOLUMES has a folder for each volume, and
# the file `mounts` that says where they go: NAME PATH ro|rw.
set -euo pipefail
root=$1 volumes=$2 read_only=$3 user=$4 group=$5
shift 5
# Whoever started this has put the other end of the wire here.
read -r link address gateway
ip link set lo up
ip link set "$link" name eth0
ip address add "$address/16" dev eth0
ip link set eth0 up
ip route add default via "$gateway"

mount -t tmpfs scratch "$root"
mkdir "$root/upper" "$root/work" "$root/it"
mount -t overlay overlay -o "lowerdir=/,upperdir=$root/upper,workdir=$root/work" "$root/it"
inside=$root/it
mount --rbind /dev "$inside/dev"
mount -t tmpfs -o size=64m shm "$inside/dev/shm"
mount -t proc proc "$inside/proc"
# Followed by the files of an image that name its users, and by where names are asked for.
cp --remove-destination "$volumes/resolv.conf" "$inside/etc/resolv.conf"
printf 'root:x:0:0::/:/bin/false\nuser:x:%s:%s::/:/bin/false\n' "$user" "$group" >"$inside/etc/passwd"
mount --bind "$volumes" "$inside/mnt"
while read -r name path how; do
  # As the container sees the path, of which a part may be a link.
  chroot "$inside" mkdir -p "$path"
  chroot "$inside" mount --bind "/mnt/$name" "$path"
  [ "$how" = rw ] || chroot "$inside" mount -o remount,bind,ro "$path"
done <"$volumes/mounts"
umount "$inside/mnt"
[ "$read_only" = no ] || mount -o remount,ro "$inside"
exec chroot "$inside" setpriv --reuid "$user" --regid "$group" --groups "$group" \
  --inh-caps=-all --bounding-set=-all --no-new-privs "$@"
