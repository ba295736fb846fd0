#!/usr/bin/env bash
# Runs inside the machine that tools/test_vm.sh boots. Arguments go to pytest.
set -uo pipefail
tree=$(cd "$(dirname "$0")/../.." && pwd) || exit 1
echo "guest: kernel $(uname -r), up after $(cut -d' ' -f1 /proc/uptime) s"

# Everything is read-only here; what tests leave behind belongs into the guest's memory.
export HOME=/tmp HYPOTHESIS_STORAGE_DIRECTORY=/tmp/hypothesis PYTHONDONTWRITEBYTECODE=1
export CI=true ZOS_TEST_BACKEND=kernel

# The disk with copies of what is read most (tools/test_vm.sh).
modprobe -a virtio_blk ext4 || exit 1
for _ in {1..50}; do
    [ ! -b /dev/vda ] || break
    sleep 0.1
done
mkdir -p /run/fast /run/kernel
mount --bind "$tree/build/vm/root" /run/kernel
mount -o ro /dev/vda /run/fast || exit 1
n=0
while read -r place; do
    n=$((n + 1))
    mount --bind "/run/fast/$n" "$place" || exit 1
done </run/fast/places
# The modules stay where virtme put them, below the tree that is now covered.
mount --bind /run/kernel "$tree/build/vm/root"
cd "$tree" || exit 1

ip link set lo up
# tun is for the tests of wireguard-go itself.
modprobe -a wireguard tun || exit 1
modinfo wireguard | grep -E '^(filename|version|vermagic)'
lsmod | grep '^wireguard '
# Only the kernel's module says this: it tells afterwards which back end did the work.
echo 'module wireguard format "Interface created" +p' >/sys/kernel/debug/dynamic_debug/control

# All that the back end has a part in. The rest has run where it is twenty times as fast.
if [ $# = 0 ]; then
    set -- -m "(kernel or vm) and not any_backend" tests/vm
    [ ! -d tests/kernel ] || set -- "$@" tests/kernel
fi
# Emulation is about twenty times slower than the machine itself.
.venv/bin/python -m pytest -v -n 2 --durations=10 -p no:cacheprovider -p no:schemathesis \
    --timeout=600 --must-run "${ZOS_VM_TESTS:-200}" "$@"
status=$?

devices=$(dmesg | grep -c 'wireguard: .*Interface created')
echo "guest: WireGuard devices made by the kernel: $devices"
[ "$devices" -gt 0 ] || status=1
if dmesg | grep -E 'BUG:|Oops|Call Trace|WARNING: CPU'; then
    echo "guest: the kernel complained"
    status=1
fi
echo "guest: tests ended with $status after $(cut -d' ' -f1 /proc/uptime) s"
exit "$status"
