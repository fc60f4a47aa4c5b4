"""Kubernetes' own word on a manifest, offline: the schemas of tests/files/kubernetes.

`python -m tests.helpers.kubernetes OUT.json.gz SOURCE` makes such a file; SOURCE is a custom resource definition in
YAML, or the _definitions.json of the package kubernetes-validate.
"""

from __future__ import annotations

import functools
import gzip
import json
import re
import sys
from pathlib import Path
from typing import Any

import jsonschema
import yaml

from tests.helpers.paths import ROOT

FOLDER = ROOT / "tests" / "files" / "kubernetes"
CORE = {
    "v1.ConfigMap": "io.k8s.api.core.v1.ConfigMap",
    "v1.PersistentVolumeClaim": "io.k8s.api.core.v1.PersistentVolumeClaim",
    "networking.k8s.io/v1.NetworkPolicy": "io.k8s.api.networking.v1.NetworkPolicy",
}
"""The kinds of deploy/ray that are Kubernetes' own."""


def problems(document: dict[str, Any], schemas: str) -> list[str]:
    """Return what the file `schemas` has against `document`: where, and what; unknown fields are refused.

    Rules in the Common Expression Language (x-kubernetes-validations) are not looked at.
    """
    found = _schemas(schemas)
    schema = {**found[f"{document['apiVersion']}.{document['kind']}"], "definitions": found}
    errors = jsonschema.Draft7Validator(schema).iter_errors(document)
    return [f"{error.json_path}: {error.message}" for error in errors]


@functools.cache
def _schemas(name: str) -> dict[str, Any]:
    definitions: dict[str, Any] = json.loads(gzip.decompress((FOLDER / name).read_bytes()))
    return definitions


def reduced(schema: Any) -> Any:
    """Return an OpenAPI v3 schema as JSON schema, closed to unknown fields, without descriptions."""
    if isinstance(schema, list):
        return [reduced(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    made = {key: reduced(value) for key, value in schema.items() if key not in ("description", "properties", "default")}
    made = {key: value for key, value in made.items() if not key.startswith("x-kubernetes")}
    if "properties" in schema:
        made["properties"] = {name: reduced(value) for name, value in schema["properties"].items()}
        if not schema.get("x-kubernetes-preserve-unknown-fields"):
            made.setdefault("additionalProperties", False)
    return made


def write(path: Path, definitions: dict[str, Any]) -> None:
    """Write `definitions`, schemas by "apiVersion.kind", the same bytes for the same schemas."""
    content = json.dumps(definitions, sort_keys=True, separators=(",", ":")).encode()
    path.write_bytes(gzip.compress(content, 9, mtime=0))


def of_custom_resource(definition: Path) -> dict[str, Any]:
    """Return the schema of a custom resource definition in YAML, of its version v1."""
    resource = yaml.safe_load(definition.read_text())["spec"]
    (schema,) = (each["schema"]["openAPIV3Schema"] for each in resource["versions"] if each["name"] == "v1")
    return {f"{resource['group']}/v1.{resource['names']['kind']}": reduced(schema)}


def of_core(definitions: Path) -> dict[str, Any]:
    """Return the schemas of CORE, and what they refer to, out of kubernetes-validate's _definitions.json."""
    text = definitions.read_text().replace("#/$defs/", "#/definitions/")
    known = json.loads(text)["$defs"]
    found: dict[str, Any] = {name: {"$ref": f"#/definitions/{target}"} for name, target in CORE.items()}
    todo = list(CORE.values())
    while todo:
        name = todo.pop()
        if name not in found:
            found[name] = reduced(known[name])
            todo += re.findall(r'"#/definitions/([^"]+)"', json.dumps(found[name]))
    return found


def main(out: str, source: str) -> None:
    """Write the schemas of `source` to `out`."""
    path = Path(source)
    write(Path(out), of_core(path) if path.suffix == ".json" else of_custom_resource(path))


if __name__ == "__main__":
    main(*sys.argv[1:])
