#!/usr/bin/env bash
# Installs what this tree needs and is not there yet. Parts, any number of them:
#   venv   .venv from requirements/dev.lock, this tree in it as an editable install
#   node   Debian packages that a node, a lab and their tests run
#   page   the browser that shows pages in tests and makes the pictures of the documents
#   vm     QEMU and a Debian kernel, unpacked below build/ and not installed
#   bench  the other overlays and lab tools that bench/ measures beside ours
# A part that is complete costs milliseconds. Nothing but Debian packages leaves this directory.
set -euo pipefail
cd "$(dirname "$0")/.."
export LC_ALL=C DEBIAN_FRONTEND=noninteractive
exec </dev/null

NODE_PACKAGES=(wireguard-go wireguard-tools nftables libnftables1 iproute2 iputils-ping util-linux procps dnsmasq-base passt
    udhcpc patch)
VM_PACKAGES=(qemu-system-x86 kmod file udev) # without udev the guest has no way to say anything
PAGE_PACKAGES=(chromium)
BENCH_PACKAGES=(iperf3 nebula tinc mininet bridge-utils)
# wireguard-go is made from Debian's source: before this suite it had no segmentation offload, and
# since it has, it sends what is for IPv6 to wrong addresses (tools/wireguard-go.patch).
SOURCE_SUITE=trixie
SOURCE_GO=golang-1.24
SOURCE_PACKAGES=("$SOURCE_GO-go" "$SOURCE_GO-src" golang-golang.zx2c4-wireguard-dev
    golang-golang-x-crypto-dev golang-golang-x-net-dev golang-golang-x-sys-dev)
DEBIAN_KEYRING=/usr/share/keyrings/debian-archive-keyring.gpg
ROOT=$PWD
STAMPS=$ROOT/build/stamps
LOG=$ROOT/build/setup.log

say() { printf 'setup: %s\n' "$*"; }
die() { printf 'setup: %s\n' "$*" >&2; exit 1; }

# Runs quietly; the log is shown only when the command fails.
logged() {
    printf '\n$ %s\n' "$*" >>"$LOG"
    if ! "$@" >>"$LOG" 2>&1; then
        tail -n 30 "$LOG" >&2
        return 1
    fi
}

# --- Debian packages ---

missing() {
    local package
    for package in "$@"; do
        [ "$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null)" = installed ] ||
            printf '%s\n' "$package"
    done
}

apt_install() {
    apt-get -y -o DPkg::Lock::Timeout=300 -o Dpkg::Use-Pty=0 install --no-install-recommends "$@"
}

# The lists may be absent or too old to download from, so one update and a second try.
install_packages() {
    local wanted
    mapfile -t wanted < <(missing "$@")
    [ ${#wanted[@]} -gt 0 ] || return 0
    command -v apt-get >/dev/null || die "needs Debian or a relative; install by hand: ${wanted[*]}"
    [ "$(id -u)" = 0 ] || die "needs root to install: ${wanted[*]}
setup: run it as root, or: sudo apt-get install ${wanted[*]}"
    say "installing ${wanted[*]}"
    apt_install "${wanted[@]}" >>"$LOG" 2>&1 && return 0
    logged apt-get -o DPkg::Lock::Timeout=300 update || say "apt-get update failed; trying all the same"
    logged apt_install "${wanted[@]}" || die "apt-get could not install ${wanted[*]}; see $LOG"
}

# --- stamps: the hash of all that a part is made from ---

recipe() { { pwd; cat tools/setup.sh "$@"; } | sha256sum | cut -d' ' -f1; }
is_done() { [ "$(cat "$STAMPS/$1" 2>/dev/null)" = "$2" ]; }
mark() { printf '%s\n' "$2" >"$STAMPS/$1"; }

# --- parts ---

find_python() {
    local candidate
    for candidate in python3 /usr/bin/python3; do
        command -v "$candidate" >/dev/null || continue
        "$candidate" -c 'import sys; raise SystemExit(sys.version_info < (3, 11))' && break
        candidate=
    done
    [ -n "${candidate:-}" ] || die "needs Python 3.11 or newer; python3 here is $(python3 -V 2>&1 || true)"
    printf '%s\n' "$candidate"
}

setup_venv() {
    local hash python
    hash=$(recipe requirements/dev.lock pyproject.toml)
    is_done venv "$hash" && [ -x .venv/bin/zos ] && return 0
    command -v python3 >/dev/null || install_packages python3 python3-venv
    python=$(find_python)
    "$python" -c 'import ensurepip, venv' 2>/dev/null || install_packages python3-venv
    if ! .venv/bin/python -c 'import sys; raise SystemExit(sys.version_info < (3, 11))' 2>/dev/null ||
        ! grep -qxF "# $PWD" .venv/.zos 2>/dev/null; then
        rm -rf .venv
        logged "$python" -m venv .venv
        printf '# %s\n' "$PWD" >.venv/.zos
    fi
    say "installing $(grep -c '^[a-z]' requirements/dev.lock) locked Python packages into .venv"
    logged .venv/bin/pip install --disable-pip-version-check --no-input --require-hashes \
        -r requirements/dev.lock || die "pip could not install the locked packages; see $LOG"
    # No index and no isolation: the build backend comes from the lock as well.
    logged .venv/bin/pip install --disable-pip-version-check --no-input --no-index --no-deps \
        --no-build-isolation --editable . || die "pip could not install this tree; see $LOG"
    mark venv "$hash"
}

# apt-get expands the names in the format, not the shell.
# shellcheck disable=SC2016
debian_mirror() {
    apt-get indextargets 'Created-By: Packages' --format '$(ORIGIN) $(CODENAME) $(REPO_URI)' |
        awk -v codename="$1" '$1 == "Debian" && $2 == codename { print $3; exit }'
}

# apt with a configuration of its own, so that the machine's sources stay as they are.
private_apt() {
    apt-get -o Dir::Etc::sourcelist="$ROOT/build/apt/sources.list" -o Dir::Etc::sourceparts=/dev/null \
        -o Dir::State::lists="$ROOT/build/apt/lists" -o Dir::Cache="$ROOT/build/apt/cache" \
        -o APT::Sandbox::User=root -o APT::Update::Error-Mode=any -o Acquire::Languages=none "$@"
}

# apt checks the suite's signature against Debian's keyring and the packages against the suite.
fetch_wireguard_go_source() {
    local mirror package
    # shellcheck source=/dev/null
    mirror=$(debian_mirror "$(. /etc/os-release && echo "${VERSION_CODENAME:-}")")
    [ -n "$mirror" ] || { echo "apt knows no mirror of Debian for this release"; return 1; }
    [ -f "$DEBIAN_KEYRING" ] || { echo "there is no $DEBIAN_KEYRING"; return 1; }
    mkdir -p build/apt/lists/partial build/apt/cache/archives/partial build/apt/root
    echo "deb [signed-by=$DEBIAN_KEYRING] $mirror $SOURCE_SUITE main" >build/apt/sources.list
    private_apt update && (cd build/apt && private_apt download "${SOURCE_PACKAGES[@]}") || return 1
    for package in build/apt/*.deb; do dpkg -x "$package" build/apt/root || return 1; done
}

build_wireguard_go() {
    local root=$ROOT/build/apt/root
    patch -d "$root/usr/share/gocode/src/golang.zx2c4.com" -p0 <tools/wireguard-go.patch &&
        env -i PATH=/usr/bin:/bin HOME="$root" GOROOT="$root/usr/lib/${SOURCE_GO/golang/go}" \
            GOPATH="$root/usr/share/gocode" GOCACHE="$root/cache" GO111MODULE=off CGO_ENABLED=0 \
            GOTOOLCHAIN=local "$root/usr/lib/${SOURCE_GO/golang/go}/bin/go" build -trimpath \
            -ldflags '-s -w' -o "$root/wireguard-go" golang.zx2c4.com/wireguard &&
        mkdir -p build/wireguard-go && mv "$root/wireguard-go" build/wireguard-go/
}

setup_node() {
    local hash
    install_packages "${NODE_PACKAGES[@]}"
    hash=$(recipe tools/wireguard-go.patch)
    is_done wireguard-go "$hash" && [ -x build/wireguard-go/wireguard-go ] && return 0
    if ! is_done wireguard-go "failed $hash"; then
        say "making wireguard-go from the source of Debian $SOURCE_SUITE in build/wireguard-go"
        rm -rf build/apt
        if { fetch_wireguard_go_source && build_wireguard_go; } >>"$LOG" 2>&1; then
            rm -rf build/apt
            mark wireguard-go "$hash"
            return 0
        fi
        rm -rf build/apt
        mark wireguard-go "failed $hash"
    fi
    [ ! -x build/wireguard-go/wireguard-go ] || { say "wireguard-go stays the one that was made before"; return 0; }
    say "wireguard-go could not be made (see $LOG). In use is $(dpkg-query -W -f '${Version}' wireguard-go)," \
        "which is slower, or loses packets where addresses of both families meet (decision 0014);" \
        "to try again: rm build/stamps/wireguard-go"
}

# Unpacked only: a kernel must not touch the machine's boot loader, and busybox-static would
# take the place of busybox.
setup_vm() {
    local hash kernel package
    install_packages "${VM_PACKAGES[@]}"
    hash=$(recipe)
    is_done vm "$hash" && return 0
    rm -rf build/vm/root build/vm/download
    mkdir -p build/vm/download
    kernel=$(kernel_package)
    if [ -z "$kernel" ]; then
        logged apt-get -o DPkg::Lock::Timeout=300 update || die "apt-get update failed; see $LOG"
        kernel=$(kernel_package)
    fi
    [ -n "$kernel" ] || die "found no Debian kernel package"
    say "unpacking $kernel and busybox-static into build/vm/root"
    download "$kernel" busybox-static || die "could not download $kernel; see $LOG"
    for package in build/vm/download/*.deb; do dpkg -x "$package" build/vm/root; done
    rm -rf build/vm/download
    /sbin/depmod -b build/vm/root "${kernel#linux-image-}"
    mark vm "$hash"
}

kernel_package() {
    apt-cache depends linux-image-amd64 2>/dev/null |
        sed -n 's/^ *Depends: \(linux-image-[0-9][^ ]*\)$/\1/p' | head -n 1
}

# The pool drops old kernels, so lists of last week may name a file that is gone.
download() (
    fetch() { apt-get -o APT::Sandbox::User=root download "$@"; }
    cd build/vm/download
    fetch "$@" >>"$LOG" 2>&1 && return 0
    logged apt-get -o DPkg::Lock::Timeout=300 update && logged fetch "$@"
)

setup_page() { install_packages "${PAGE_PACKAGES[@]}"; }

setup_bench() {
    local hash
    install_packages "${BENCH_PACKAGES[@]}"
    hash=$(recipe requirements/rivals.lock)
    is_done bench "$hash" && [ -x build/rivals/bin/python ] && return 0
    say "installing munet into build/rivals"
    rm -rf build/rivals
    logged "$(find_python)" -m venv build/rivals
    logged build/rivals/bin/pip install --disable-pip-version-check --no-input --require-hashes \
        -r requirements/rivals.lock || die "pip could not install munet; see $LOG"
    mark bench "$hash"
}

main() {
    local part
    [ $# -gt 0 ] || die "name the parts: venv node page vm bench"
    mkdir -p "$STAMPS"
    # Two runs at once would install into each other's half-made environment.
    exec 9>build/setup.lock
    flock -w 900 9 || die "another set-up has been running for 15 minutes"
    for part in "$@"; do
        case $part in
            venv | node | page | vm | bench) "setup_$part" ;;
            *) die "no such part: $part" ;;
        esac
    done
}

main "$@"
