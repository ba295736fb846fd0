#!/usr/bin/env bash
# Runs inside the machine that tools/test_vm.sh boots. Arguments go to pytest.
set -uo pipefail
cd "$(dirname "$0")/../.." || exit 1
echo "guest: kernel $(uname -r), up after $(cut -d' ' -f1 /proc/uptime) s"

# The tree is read-only here; what tests leave behind belongs into the guest's memory.
export HOME=/tmp HYPOTHESIS_STORAGE_DIRECTORY=/tmp/hypothesis PYTHONDONTWRITEBYTECODE=1
export CI=true ZOS_TEST_BACKEND=kernel

ip link set lo up
modprobe wireguard || exit 1
modinfo wireguard | grep -E '^(filename|version|vermagic)'
lsmod | grep '^wireguard '
# Only the kernel module says this: it tells afterwards which back end did the work.
echo 'module wireguard format "Interface created" +p' >/sys/kernel/debug/dynamic_debug/control

suites=(tests/vm)
[ ! -d tests/kernel ] || suites+=(tests/kernel)
# Emulation is about ten times slower than the machine itself.
.venv/bin/python -m pytest -q -p no:cacheprovider --timeout=600 --must-run "${ZOS_VM_TESTS:-1}" \
    "${@:-${suites[@]}}"
status=$?

devices=$(dmesg | grep -c 'wireguard: .*Interface created')
echo "guest: the kernel's WireGuard made $devices devices, wireguard-go runs: $(pgrep -c wireguard-go)"
[ "$devices" -gt 0 ] || status=1
dmesg --level=emerg,alert,crit,err | grep -E 'BUG|Oops|Call Trace|WARNING' && status=1
echo "guest: tests ended with $status"
exit "$status"
