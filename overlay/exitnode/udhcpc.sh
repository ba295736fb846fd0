#!/bin/sh
# What udhcpc calls with each event: the uplink of an egress netns has the address of the lease, for
# as long as the lease has been given, and the first router as its default route.
set -eu
PATH=/usr/sbin:/usr/bin:/sbin:/bin
case ${1:-} in
deconfig)
    ip -4 address flush dev "$interface" scope global
    ;;
bound | renew)
    address=$ip/${mask:-32}
    for other in $(ip -4 -o address show dev "$interface" scope global | awk '{ print $4 }'); do
        [ "$other" = "$address" ] || ip -4 address delete "$other" dev "$interface"
    done
    ip -4 address replace "$address" dev "$interface" valid_lft "$lease" preferred_lft "$lease"
    for gateway in ${router:-}; do
        ip -4 route replace default via "$gateway" dev "$interface" proto dhcp src "$ip"
        break
    done
    ;;
esac
