"""The device key to come, in member documents (specs DOC-070 .. DOC-072)."""

from __future__ import annotations

import msgspec

from overlay.documents.fields import IdText, UnixTime, check_id
from overlay.errors import Rejected
from overlay.keys import wireguard
from overlay.keys.identity import Kind


class NextDevice(msgspec.Struct, frozen=True, forbid_unknown_fields=True, gc=False):
    """In a member: the device key that takes over, which signs the document as well, and when."""

    device: IdText
    at: UnixTime  # a hint: what counts is who answers with the key


def check_next_device(coming: NextDevice, *, device: str) -> None:
    """Raise Rejected unless it is a device key, and not the one in use in any spelling."""
    check_id(Kind.WG, coming.device, "next_device.device")
    key = wireguard.wireguard_public_key(coming.device, field="next_device.device")
    if key == wireguard.wireguard_public_key(device, field="device"):
        raise Rejected("is the WireGuard key in use", field="next_device.device")
