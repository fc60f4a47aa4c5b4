"""A program: a parser is fuzzed by atheris, guided by which of its lines a file reaches.

    python -m tests.faults.fuzzing PARSER SECONDS [--corpus DIR] [--out FILE]

PARSER is a kind of `inputs.CONTAINERS`. Whatever it does with a file but give rows or one line of ours is a finding,
and the first file of each lies in DIR/findings afterwards. In DIR/files are those that reached something new, which are
tried first the next time. FILE gets an entry for the parser, beside those of others.
Needs `pip install 'infoae[fuzz]'`, on Linux.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import mmap
import os
import struct
import tempfile
import time
from contextlib import redirect_stderr
from pathlib import Path
from typing import Any

from tests.faults.forks import SECONDS, limit_memory

MOST_BYTES = 32 * 1024
"""Of a file that is made."""
INSTRUMENTED = ["infoae.data", "infoae.deploy", "infoae.config", "tarfile", "zipfile", "gzip", "_compression", "yaml"]


def instrumented() -> tuple[Any, Any]:
    """Import what is fuzzed so that atheris sees which lines run; return atheris and the kinds by name."""
    import atheris

    with redirect_stderr(io.StringIO()), atheris.instrument_imports(include=INSTRUMENTED):
        from tests.faults import inputs
    return atheris, inputs


class Findings:
    """Findings by what was wrong, in a folder; how many files were tried, in memory that a crash leaves."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._tried = mmap.mmap(-1, 8)

    @property
    def tried(self) -> int:
        """How many files were tried."""
        return int(struct.unpack("<q", self._tried[:8])[0])

    def count(self) -> None:
        """Note that a file is tried."""
        self._tried[:8] = struct.pack("<q", self.tried + 1)

    def add(self, content: bytes, why: str) -> None:
        """Keep the first file of each fault."""
        name = hashlib.sha256(why.encode()).hexdigest()[:16]
        if not (self.folder / name).exists():
            (self.folder / name).write_bytes(content)
            (self.folder / f"{name}.txt").write_text(why, encoding="utf-8")

    def all(self) -> list[dict[str, str]]:
        """Return what was found, and the file of each."""
        told = [{"file": path.stem, "what": path.read_text(encoding="utf-8")} for path in self.folder.glob("*.txt")]
        ended = [{"file": path.name, "what": "the process ended"} for path in self.folder.glob("ended-*")]
        return sorted(told + ended, key=lambda finding: finding["file"])


def fuzz(atheris: Any, inputs: Any, parser: str, seconds: int, corpus: Path, findings: Findings) -> None:
    """Fuzz until the time is up or a file ends this process."""
    from tests.faults.readers import wrong

    kind = inputs.CONTAINERS[parser]
    inputs.prepare()
    limit_memory()

    def one(content: bytes) -> None:
        for given in [content] if kind.finish is None else [content, kind.finish(content)]:
            findings.count()
            found = wrong(kind, given)
            if found is not None:
                findings.add(given, found)

    options = [
        f"-max_total_time={seconds}", f"-timeout={20 * SECONDS}", f"-max_len={MOST_BYTES}", "-rss_limit_mb=0",
        "-print_final_stats=0", "-verbosity=0", f"-artifact_prefix={findings.folder}/ended-",
    ]  # fmt: skip
    atheris.Setup(["fuzzing", *options, str(corpus / "files")], one)
    atheris.Fuzz()


def main() -> None:
    """Fuzz what the arguments say, in a process that is begun again where a file ends it."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults.fuzzing")
    parser.add_argument("parser")
    parser.add_argument("seconds", type=int)
    parser.add_argument("--corpus", type=Path)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    atheris, inputs = instrumented()
    if arguments.parser not in inputs.CONTAINERS:
        parser.error(f"PARSER is one of {', '.join(inputs.CONTAINERS)}")
    corpus = (arguments.corpus or Path(tempfile.mkdtemp(prefix="corpus-"))).resolve()
    findings = Findings(corpus / "findings")
    for folder in (findings.folder, corpus / "files"):
        folder.mkdir(parents=True, exist_ok=True)
    kind = inputs.CONTAINERS[arguments.parser]
    for number, content in enumerate(kind.seeds()):
        (corpus / "files" / f"seed-{number}").write_bytes(content)
    end = time.monotonic() + arguments.seconds
    while (left := round(end - time.monotonic())) > 0:
        pid = os.fork()
        if not pid:
            try:
                log = os.open(corpus / "log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
                os.dup2(log, 2)
                with tempfile.TemporaryDirectory() as folder:
                    os.chdir(folder)
                    fuzz(atheris, inputs, arguments.parser, left, corpus, findings)
            finally:
                os._exit(70)
        os.waitpid(pid, 0)
    found = findings.all()
    print(f"{arguments.parser}: {findings.tried:,} files in {arguments.seconds} s, {len(found)} findings")  # noqa: T201
    for finding in found:
        print(f"{corpus / 'findings' / finding['file']}: {finding['what']}")  # noqa: T201
    if arguments.out:
        results = json.loads(arguments.out.read_text(encoding="utf-8")) if arguments.out.exists() else {}
        results[arguments.parser] = {"seconds": arguments.seconds, "files": findings.tried, "findings": found}
        arguments.out.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
