"""From an edited file to a signed, published document; the file is written last (CLI-001)."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from overlay.documents import envelope as dsse
from overlay.documents import schema, trust
from overlay.documents.envelope import Envelope
from overlay.documents.schema import Document, Farm, Network
from overlay.errors import Conflict, Refused
from overlay.keys.identity import Identity, Kind
from overlay.model import NetworkId
from zos_core.cli import output
from zos_core.cli.directory import Directory, choose_reference
from zos_core.cli.home import Home
from zos_core.files import farm as farm_files
from zos_core.files import network as network_files
from zos_core.files.farm import FarmFile
from zos_core.files.network import NetworkFile


class NetworkEdit:
    """One network file between reading and writing."""

    def __init__(
        self, home: Home, named: str, *, registry: str | None = None, text: str | None = None
    ) -> None:
        self.home = home
        self.named = named
        self.text = home.read_file("networks", named) if text is None else text
        self.file: NetworkFile = network_files.parse_network_file(self.text)
        self._registry = registry

    @property
    def id(self) -> NetworkId:
        return trust.network_id(network_files.owners(self.file), self.file.name)

    def document(self, version: int) -> Network:
        return network_files.network_document(self.file, version)

    def change(self, edit: Callable[[str], str]) -> None:
        """Edit the text in memory. What every node would refuse is refused here."""
        text = edit(self.text)
        file = network_files.parse_network_file(text)
        network_files.network_document(file, file.version + 1)
        self.text, self.file = text, file

    def save(self) -> None:
        self.home.write_file("networks", self.named, self.text)

    def reference(self) -> str:
        return choose_reference(self.home, option=self._registry, file=self.file.registry)

    def directory(self) -> Directory:
        """The registry, asked in the name of an owner."""
        return Directory(self.reference(), caller=self.owners()[0])

    def owners(self) -> list[Identity]:
        """The owners' keys on this machine. Raises Refused when there is none."""
        keys = self.home.open_all(Kind.TENANT, self.file.owners.keys)
        if not keys:
            raise Refused(
                f"no owner's key of {self.file.name} is on this machine",
                remedy=f"owners are {', '.join(self.file.owners.keys)}",
            )
        return keys

    def sign(self, *, others: Iterable[Envelope] = ()) -> Envelope:
        """The next version, signed by every owner here and by those whose envelopes are given."""
        return sign_with(self.document(self.file.version + 1), self.owners(), others=others)

    def publish(self, *, others: Iterable[Envelope] = ()) -> int:
        """Sign and publish the next version, then write the file. Returns the version."""
        envelope = self.sign(others=others)
        version = _publish(self.directory, envelope, what=f"network {self.named}")
        self.record(version)
        return version

    def record(self, version: int) -> None:
        """Write the file, with the version that the registry has."""
        self.text = network_files.signed_as(self.text, version)
        self.file = network_files.parse_network_file(self.text)
        self.save()


class FarmEdit:
    """One farm file between reading and writing."""

    def __init__(
        self, home: Home, named: str, *, registry: str | None = None, text: str | None = None
    ) -> None:
        self.home = home
        self.named = named
        self.text = home.read_file("farms", named) if text is None else text
        self.file: FarmFile = farm_files.parse_farm_file(self.text)
        self._registry = registry

    def document(self, version: int) -> Farm:
        return farm_files.farm_document(self.file, version)

    def change(self, edit: Callable[[str], str]) -> None:
        """Edit the text in memory. What every node would refuse is refused here."""
        text = edit(self.text)
        file = farm_files.parse_farm_file(text)
        farm_files.farm_document(file, file.version + 1)
        self.text, self.file = text, file

    def save(self) -> None:
        self.home.write_file("farms", self.named, self.text)

    def directory(self) -> Directory:
        reference = choose_reference(self.home, option=self._registry, file=self.file.registry)
        return Directory(reference, caller=self.key())

    def key(self) -> Identity:
        """The farm's key. Raises Refused when it is not on this machine."""
        keys = self.home.open_all(Kind.FARM, (self.file.farm,))
        if not keys:
            raise Refused(f"the key of {self.file.farm} is not on this machine")
        return keys[0]

    def publish(self) -> int:
        """Sign and publish the next version, then write the file. Returns the version."""
        envelope = sign_with(self.document(self.file.version + 1), [self.key()])
        version = _publish(self.directory, envelope, what=f"farm {self.named}")
        self.text = farm_files.signed_as(self.text, version)
        self.file = farm_files.parse_farm_file(self.text)
        self.save()
        return version


def finish_network(edit: NetworkEdit, *, no_publish: bool, done: str, **more: object) -> None:
    """Publish the edited network, or save its file alone, and say so."""
    _save_or_publish(edit, "network", no_publish=no_publish)
    output.show({**network_value(edit, published=not no_publish), **more}, done)


def network_value(edit: NetworkEdit, *, published: bool) -> dict[str, object]:
    """What every command that edits a network says as JSON."""
    file = edit.file
    return {"network": edit.id, "name": file.name, "version": file.version, "published": published}


def finish_farm(edit: FarmEdit, *, no_publish: bool, done: str, **more: object) -> None:
    """Publish the edited farm, or save its file alone, and say so."""
    _save_or_publish(edit, "farm", no_publish=no_publish)
    file = edit.file
    value = {"farm": file.farm, "version": file.version, "published": not no_publish}
    output.show({"name": file.name, **value, **more}, done)


def _save_or_publish(edit: NetworkEdit | FarmEdit, kind: str, *, no_publish: bool) -> None:
    if no_publish:
        edit.save()
        output.say(f"not published; then run: zos {kind} publish {edit.named}")
    else:
        with output.progress("publishing"):
            edit.publish()


def sign_with(
    document: Document, signers: Iterable[Identity], *, others: Iterable[Envelope] = ()
) -> Envelope:
    """The document signed by the signers, with signatures that others made over the same bytes."""
    kind = schema.kind_of(document)
    envelope = dsse.sign(schema.encode(document), schema.payload_type(kind), *signers)
    signatures = {signature.keyid: signature for signature in envelope.signatures}
    for other in others:
        if other.payload != envelope.payload:
            raise Conflict(
                "their signature is for another document",
                remedy="sign the same file at the same version",
            )
        signatures |= {signature.keyid: signature for signature in other.signatures}
    ordered = tuple(signatures[keyid] for keyid in sorted(signatures))
    return Envelope(envelope.payload_type, envelope.payload, ordered)


def _publish(directory: Callable[[], Directory], envelope: Envelope, *, what: str) -> int:
    verified = trust.verify(envelope)  # what nodes will do; a missing signature shows here
    kind, _, name = what.partition(" ")
    try:
        directory().publish(envelope)
    except Conflict as exc:
        remedy = f"see what is there: zos {kind} {'diff' if kind == 'network' else 'show'} {name}"
        raise Conflict(exc.message, field=exc.field, remedy=exc.remedy or remedy) from exc
    return verified.version
