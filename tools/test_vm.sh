#!/usr/bin/env bash
# Boots Debian's kernel in QEMU over this machine's own files, read-only, and runs the suites on
# kernel WireGuard in it. Ends with the guest's exit code; the log stays in build/vm/log.
# Pure emulation: hardware virtualization gains little on a suite this short, and a machine that
# only claims to have it hangs.
set -euo pipefail
cd "$(dirname "$0")/.."

TIMEOUT_S=${ZOS_VM_TIMEOUT_S:-3000}
LOG=build/vm/log
IMAGE=build/vm/fast.img
STAGE=build/vm/stage
MADE_FOR_HOST_ONLY=(mypy mypyc ruff pip setuptools schemathesis jsonschema_rs graphql)

# What the tests run, and what overlay/netns/nft.py loads.
HOT=(ip sysctl wg nft ping bash env sleep dnsmasq /usr/lib/*/libnftables.so.1)

# Files that a start of the named programs reads: themselves, their libraries, the loader.
files_of() {
    local program path
    for program in "$@"; do
        path=$(command -v "$program" || ls "$program") 2>/dev/null || continue
        printf '%s\n' "$path"
        ldd "$path" | grep -o '/[^ ]*'
    done | xargs realpath | sort -u
}

# The guest sees this machine's files through 9p, which caches nothing: a Python that starts from
# there takes ten seconds, an ip a third of one. What is read most comes on a disk of its own:
# <image>/<n> is the copy of the directory or file that line n of <image>/places names.
make_image() {
    local prefix python excluded hot
    prefix=$(.venv/bin/python -c 'import sys; print(sys.base_prefix)')
    python=$(.venv/bin/python -c 'import sysconfig; print(sysconfig.get_path("stdlib"))')
    [ "$prefix" = /usr ] || python=$prefix
    rm -rf "$STAGE" "$IMAGE"
    mkdir -p "$STAGE/1/build/vm/root" "$STAGE/2"
    printf '%s\n' "$PWD" "$python" >"$STAGE/places"

    mapfile -t excluded < <(printf -- '--exclude=./.venv/lib/python3*/site-packages/%s\n' \
        "${MADE_FOR_HOST_ONLY[@]}")
    tar --create --exclude=./.git --exclude=./build --exclude='./.*_cache' --exclude=./.hypothesis \
        "${excluded[@]}" --exclude='*mypyc*.so' --exclude=./.venv/bin/ruff . |
        tar --extract --directory "$STAGE/1"
    [ ! -d build/wireguard-go ] || cp -a build/wireguard-go "$STAGE/1/build/"
    tar --create --directory "$python" --exclude=site-packages --exclude=test --exclude=idlelib \
        --exclude='config-*' --exclude='*.a' --exclude=share . | tar --extract --directory "$STAGE/2"

    for hot in $(files_of "${HOT[@]}" "$(realpath .venv/bin/python)"); do
        printf '%s\n' "$hot" >>"$STAGE/places"
        cp "$hot" "$STAGE/$(wc -l <"$STAGE/places")"
    done

    local megabytes files
    megabytes=$(du -sm "$STAGE" | cut -f1)
    files=$(find "$STAGE" | wc -l)
    /sbin/mke2fs -q -t ext4 -O ^has_journal -m 0 -N $((files + 1000)) -d "$STAGE" "$IMAGE" \
        "$((megabytes * 5 / 4 + 32))M" >/dev/null 2>&1
    rm -rf "$STAGE"
}

kernel=(build/vm/root/boot/vmlinuz-*)
[ -f "${kernel[0]}" ] || { echo "test-vm: no kernel in build/vm; run tools/setup.sh vm" >&2; exit 1; }

started=$SECONDS
make_image
echo "test-vm: booting ${kernel[0]##*/}, log in $LOG"
status=0
# vng calls its own parts by name and keeps a cache at home. The emulated TSC is steady, the kernel
# just cannot know it; the HPET it would take instead costs an exit for every look at the clock.
PATH=$PWD/.venv/bin:$PATH HOME=$PWD/build/vm \
    timeout --kill-after=10 "$TIMEOUT_S" \
    vng --disable-kvm --force-9p --busybox build/vm/root/bin/busybox --run "${kernel[0]}" \
    --user root --memory 2G --cpus 2 --append "tsc=reliable clocksource=tsc" \
    --qemu-opts="-drive file=$PWD/$IMAGE,if=virtio,format=raw,readonly=on" \
    -- "$PWD/tests/vm/guest.sh" "$@" </dev/null > >(tee "$LOG") 2>&1 &
# In the background, so that Ctrl-C and kill reach this script, which then ends the machine.
machine=$!
trap 'kill "$machine" 2>/dev/null; wait "$machine"; exit 130' INT TERM
wait "$machine" || status=$?
[ "$status" != 124 ] || echo "test-vm: stopped after $TIMEOUT_S s" >&2
# A guest that dies early must not pass for one whose tests passed.
grep -q '^guest: tests ended with 0' "$LOG" || [ "$status" != 0 ] || status=1
echo "test-vm: exit $status after $((SECONDS - started)) s"
exit "$status"
