"""JSON Schemas of the files that people write, for editors; run as a module it writes them."""

from __future__ import annotations

import inspect
import json
import sys
from pathlib import Path
from typing import Any

import msgspec

from zos_core.config import NodeConfig
from zos_core.files.config import Config
from zos_core.files.farm import FarmFile
from zos_core.files.network import NetworkFile

FILES: dict[str, type[msgspec.Struct]] = {
    "network": NetworkFile,
    "farm": FarmFile,
    "config": Config,
    "node": NodeConfig,
}


def file_schema(name: str, model: type[msgspec.Struct]) -> dict[str, Any]:
    """The schema of one kind of file. Unknown keys are errors, as they are to the parser."""
    schema = msgspec.json.schema(model)
    for definition in schema.get("$defs", {}).values():
        if definition.get("type") == "object" and "properties" in definition:
            definition["additionalProperties"] = False
        if (doc := definition.get("description")) is not None:
            # From Python 3.13 on a docstring has lost its indentation already.
            definition["description"] = inspect.cleandoc(doc)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": f"zos {name} file",
        **schema,
    }


def write_schemas(directory: Path) -> None:
    """NAME.schema.json of every kind of file."""
    directory.mkdir(parents=True, exist_ok=True)
    for name, model in FILES.items():
        write_schema(directory, name, model)


def write_schema(directory: Path, name: str, model: type[msgspec.Struct]) -> None:
    text = json.dumps(file_schema(name, model), indent=2) + "\n"
    (directory / f"{name}.schema.json").write_text(text)


if __name__ == "__main__":
    write_schemas(Path(sys.argv[1]))
