"""The private keys of a node: its own, and for each network a device's and an invitation's."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from overlay.documents.schema import Member
from overlay.keys import store
from overlay.keys.identity import Identity, Kind, Signer
from overlay.keys.wireguard import DeviceKey
from overlay.model import NetworkId

INVITATIONS = "invitations"
RELAY_KEY_FILE = "relay.key"


class Keyring:
    """Reads and writes the key files below one directory."""

    def __init__(self, directory: Path, identity: Identity) -> None:
        self._directory = directory
        self._identity = identity

    def device(self, network: NetworkId) -> DeviceKey:
        """Made when the network is new to us. Raises Rejected when its file is damaged."""
        return store.load_or_create_device(self._directory, network)

    def next_device(self, network: NetworkId) -> DeviceKey | None:
        """The key that takes over; None while there is none. Raises Rejected when damaged."""
        try:
            return DeviceKey(
                store.load(store.next_device_key_path(self._directory, network), Kind.WG)
            )
        except store.Absent:
            return None

    def make_next_device(self, network: NetworkId) -> DeviceKey:
        """The same until it has taken over, or is dropped."""
        path = store.next_device_key_path(self._directory, network)
        return DeviceKey(store.load_or_create(path, Kind.WG))

    def drop_next_device(self, network: NetworkId) -> None:
        store.delete(store.next_device_key_path(self._directory, network))

    def promote_next_device(self, network: NetworkId) -> DeviceKey:
        """The next key is the device's from now on, and the one before is on no disk any more."""
        store.replace(
            store.device_key_path(self._directory, network),
            store.next_device_key_path(self._directory, network),
            Kind.WG,
        )
        return self.device(network)

    def relay(self) -> DeviceKey:
        """Made when our farm offers us as a relay first. Raises Rejected when it is damaged."""
        return DeviceKey(store.load_or_create(self._directory / RELAY_KEY_FILE, Kind.WG))

    def keep_invitation(self, network: NetworkId, invitation: Identity) -> None:
        """Later versions of the member document are signed by the invitation as well."""
        path = self._invitation_path(network)
        store.delete(path)
        store.save(path, invitation)

    def member_signers(self, member: Member, device: DeviceKey) -> tuple[Signer, ...]:
        """Whose signatures our member document needs."""
        signers: list[Signer] = [self._identity, device]
        network = NetworkId(member.network)
        if member.next_device is not None:
            path = store.next_device_key_path(self._directory, network)
            signers.append(DeviceKey(store.load(path, Kind.WG)))
        if member.invitation is not None:
            signers.append(store.load(self._invitation_path(network), Kind.INVITE))
        return tuple(signers)

    def forget(self, network: NetworkId) -> None:
        store.delete(store.device_key_path(self._directory, network))
        store.delete(store.next_device_key_path(self._directory, network))
        store.delete(self._invitation_path(network))

    def forget_others(self, networks: Iterable[NetworkId]) -> tuple[str, ...]:
        """No key is left of any other network; the names of the files that went."""
        keep = frozenset(
            path(self._directory, network).name
            for network in networks
            for path in (store.device_key_path, store.next_device_key_path)
        )
        return (
            *store.delete_others(self._directory / store.DEVICES, keep),
            *store.delete_others(self._directory / INVITATIONS, keep),
        )

    def _invitation_path(self, network: NetworkId) -> Path:
        device = store.device_key_path(self._directory, network)
        return self._directory / INVITATIONS / device.name
