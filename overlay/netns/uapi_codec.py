"""The text protocol of a userspace WireGuard's control socket to and from values.

https://www.wireguard.com/xplatform/. Keys are lower-case hex; a reply ends with errno and an empty
line.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager

from nacl.bindings import crypto_scalarmult_base
from nacl.exceptions import CryptoError

from overlay.errors import Unavailable
from overlay.model import Address, Endpoint, PeerTraffic, Prefix, WgDevice, WgPeer, WgPublicKey

GET_REQUEST = b"get=1\n\n"
REPLY_END = b"\n\n"
# A device is locked for one transaction; this many peers take a few tens of milliseconds.
PEERS_PER_REQUEST = 500

KEY_BYTES = 32
_NO_PRESHARED_KEY = "00" * KEY_BYTES
# A quarter of the text, the same for every peer that we wrote: not worth keeping.
_ALWAYS = f"preshared_key={_NO_PRESHARED_KEY}\nprotocol_version=1\n".encode()


def encode_set(
    *,
    private_key: bytes | None = None,
    listen_port: int | None = None,
    put: Sequence[WgPeer] = (),
    drop: Iterable[WgPublicKey] = (),
) -> Iterator[bytes]:
    """Requests that make the change, in order; none when there is nothing to change."""
    blocks: list[str] = [f"public_key={key.hex()}\nremove=true\n" for key in drop]
    blocks.extend(map(_peer_block, put))
    head = _device_block(private_key, listen_port)
    if head or blocks:
        yield _request(head, blocks[:PEERS_PER_REQUEST])
    for start in range(PEERS_PER_REQUEST, len(blocks), PEERS_PER_REQUEST):
        yield _request("", blocks[start : start + PEERS_PER_REQUEST])


def parse_errno(reply: bytes) -> int:
    """The error number a reply ends with, 0 for none. Raises Unavailable when it is no reply."""
    with _understood():
        return abs(int(reply[reply.rindex(b"errno=") + 6 :]))


def parse_device(
    reply: bytes, *, known: Mapping[bytes, WgPeer]
) -> tuple[WgDevice, dict[bytes, WgPeer]]:
    """The device in a reply to GET_REQUEST, and what to pass as `known` the next time.

    Most peers of a large device are idle, so their text is the same every time: it is looked up
    instead of parsed.
    """
    parsed: dict[bytes, WgPeer] = {}
    peers: dict[WgPublicKey, WgPeer] = {}
    with _understood():
        head, chunks = _split(reply)
        for chunk in chunks:
            peer = known.get(chunk) or _parse_peer(chunk)
            parsed[chunk] = peer
            peers[peer.public_key] = peer
        return _parse_head(head, peers), parsed


def parse_traffic(reply: bytes) -> dict[WgPublicKey, PeerTraffic]:
    """Bytes received and sent by every peer in a reply to GET_REQUEST."""
    traffic = {}
    with _understood():
        for chunk in _split(reply)[1]:
            fields = dict(line.split(b"=", 1) for line in chunk[65:-1].split(b"\n"))
            traffic[_parse_key(chunk[:64].decode())] = PeerTraffic(
                int(fields[b"rx_bytes"]), int(fields[b"tx_bytes"])
            )
    return traffic


@contextmanager
def _understood() -> Iterator[None]:
    try:
        yield
    except (ValueError, LookupError, CryptoError) as exc:
        raise Unavailable("the control socket does not speak WireGuard's protocol") from exc


def _split(reply: bytes) -> tuple[bytes, list[bytes]]:
    """The device's lines, and one chunk per peer: its key and those of its lines that tell."""
    said = reply[: reply.rindex(b"errno=")].replace(_ALWAYS, b"")
    head, *chunks = said.split(b"public_key=")
    return head, chunks


def _parse_head(head: bytes, peers: Mapping[WgPublicKey, WgPeer]) -> WgDevice:
    fields = dict(line.split(b"=", 1) for line in head.split(b"\n") if line)
    private_key = bytes.fromhex(fields.get(b"private_key", b"").decode())
    return WgDevice(
        public_key=WgPublicKey(crypto_scalarmult_base(private_key)) if private_key else None,
        listen_port=int(fields.get(b"listen_port", b"0")),
        peers=peers,
    )


def _parse_peer(chunk: bytes) -> WgPeer:
    text = chunk.decode()
    endpoint = None
    keepalive_s = latest_handshake = 0
    preshared_key = _NO_PRESHARED_KEY
    allowed_ips = []
    for line in text[65:-1].split("\n"):
        name, _, value = line.partition("=")
        if name == "allowed_ip":
            allowed_ips.append(Prefix(value))
        elif name == "last_handshake_time_sec":
            latest_handshake = int(value)
        elif name == "persistent_keepalive_interval":
            keepalive_s = int(value)
        elif name == "endpoint":
            endpoint = _parse_endpoint(value)
        elif name == "preshared_key":
            preshared_key = value
    if preshared_key != _NO_PRESHARED_KEY:
        allowed_ips = []  # not a peer that we wrote, see WGD-007
    return WgPeer(
        public_key=_parse_key(text[:64]),
        allowed_ips=tuple(sorted(allowed_ips)),
        endpoint=endpoint,
        keepalive_s=keepalive_s,
        latest_handshake=latest_handshake,
    )


def _parse_key(text: str) -> WgPublicKey:
    key = bytes.fromhex(text)
    if len(key) != KEY_BYTES:
        raise ValueError("a key is cut short")
    return WgPublicKey(key)


def _parse_endpoint(text: str) -> Endpoint:
    host, _, port = text.rpartition(":")
    return Endpoint(Address(host.strip("[]")), int(port))


def _request(head: str, blocks: Sequence[str]) -> bytes:
    return f"set=1\n{head}{''.join(blocks)}\n".encode()


def _device_block(private_key: bytes | None, listen_port: int | None) -> str:
    lines = ""
    if private_key is not None:
        lines += f"private_key={private_key.hex()}\n"
    if listen_port is not None:
        lines += f"listen_port={listen_port}\n"
    return lines


def _peer_block(peer: WgPeer) -> str:
    endpoint = f"endpoint={peer.endpoint}\n" if peer.endpoint is not None else ""
    allowed = "".join(f"allowed_ip={prefix}\n" for prefix in peer.allowed_ips)
    return (
        f"public_key={peer.public_key.hex()}\n"
        f"preshared_key={_NO_PRESHARED_KEY}\n"
        f"{endpoint}"
        f"persistent_keepalive_interval={peer.keepalive_s}\n"
        f"replace_allowed_ips=true\n"
        f"{allowed}"
    )
