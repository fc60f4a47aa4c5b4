"""The page as text: what is built in `assets/`, the data, and no request to anywhere."""

from __future__ import annotations

import base64
import hashlib
import html
import json
from collections.abc import Iterator, Mapping
from importlib import resources
from typing import Any

_POLICY = (
    "default-src 'none'; script-src 'sha256-{digest}' 'wasm-unsafe-eval'; style-src 'unsafe-inline'; "
    "img-src data: blob: file: 'self'; media-src file:; connect-src 'none'; form-action 'none'; base-uri 'none'"
)
"""What the browser enforces: no script but ours runs, whatever a name or path holds, and nothing is fetched or sent."""


def page(title: str, data: Mapping[str, Any], blobs: dict[str, bytes], classifies: bool) -> Iterator[str]:
    """Yield the parts of the page.

    `data` becomes JSON; `blobs`, by the id under which the script finds them, become base64. With `classifies` the
    runtime for dropped pictures is in the page.
    """
    script = _asset("gallery.js").decode()
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    yield '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
    yield f'<meta http-equiv="Content-Security-Policy" content="{_POLICY.format(digest=digest)}">\n'
    yield '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
    yield '<meta name="referrer" content="no-referrer">\n<link rel="icon" href="data:,">\n'
    yield f"<title>{html.escape(title)}</title>\n<style>{_asset('gallery.css').decode()}</style>\n</head>\n<body>\n"
    yield _asset("body.html").decode()
    yield f'<script type="application/json" id="data">{_json(data)}</script>\n'
    runtime = {"wasm": _asset("onnxruntime.wasm.gz")} if classifies else {}
    for name, content in (blobs | runtime).items():
        yield f'<script type="text/plain" id="{name}">{base64.b64encode(content).decode()}</script>\n'
    yield f'<script type="text/plain" id="licences">{html.escape(_asset("LICENCES.txt").decode())}</script>\n'
    yield f'<script type="module">{script}</script>\n</body>\n</html>\n'


def _json(data: Mapping[str, Any]) -> str:
    """Return JSON that ends no element and begins no comment, whatever its texts hold."""
    return json.dumps(data, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")


def _asset(name: str) -> bytes:
    return (resources.files("infoae.gallery") / "assets" / name).read_bytes()
