#!/usr/bin/env bash
# Boots Debian's kernel in QEMU over this machine's own files, read-only, and runs the suites on
# kernel WireGuard in it. Ends with the guest's exit code; the log stays in build/vm/log.
# Pure emulation: a machine with hardware virtualization gains little on a suite this short, and
# one that only claims to have it hangs.
set -euo pipefail
cd "$(dirname "$0")/.."

TIMEOUT_S=${ZOS_VM_TIMEOUT_S:-1800}
LOG=build/vm/log

image=(build/vm/root/boot/vmlinuz-*)
[ -f "${image[0]}" ] || { echo "test-vm: no kernel in build/vm; run tools/setup.sh vm" >&2; exit 1; }

started=$SECONDS
echo "test-vm: booting ${image[0]##*/}, log in $LOG"
status=0
# vng calls its own parts by name.
PATH=$PWD/.venv/bin:$PATH XDG_CACHE_HOME=$PWD/build/vm/cache \
    timeout --kill-after=10 "$TIMEOUT_S" \
    vng --disable-kvm --force-9p --busybox build/vm/root/bin/busybox --run "${image[0]}" \
    --user root --memory 2G --cpus 2 -- "$PWD/tests/vm/guest.sh" "$@" </dev/null 2>&1 |
    tee "$LOG" || status=${PIPESTATUS[0]}
[ "$status" != 124 ] || echo "test-vm: stopped after $TIMEOUT_S s" >&2
# A guest that dies early must not pass for one whose tests passed.
grep -q '^guest: tests ended with 0$' "$LOG" || [ "$status" != 0 ] || status=1
echo "test-vm: exit $status after $((SECONDS - started)) s"
exit "$status"
