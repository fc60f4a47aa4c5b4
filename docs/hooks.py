"""What the site needs beyond its Markdown: README as first page, and the files outside docs/ that pages link to.

A link is right on the site where it is right in the repository, so pages are written for one place only. What lies
outside docs/ is copied below repository/; a link to what is not there is left alone, and the strict build refuses it.
It also refuses a built page that would fetch something to be shown.
"""

from __future__ import annotations

import logging
import posixpath
import re
from pathlib import Path
from urllib.parse import unquote

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[1]
FIRST_PAGE = "README.md"
LINK = re.compile(r"""(?P<before>\]\(|(?:src|href)=")(?P<target>[^)"\s#:]+)(?=[)"\s#])""")
FETCHED = re.compile(
    r"""<(?:script|img|iframe|source)\b[^>]*\bsrc="?(?:https?:)?//[^>]*>
    |<link\b[^>]*\bhref="?(?:https?:)?//[^>]*>|@import[^;]*//[^;]*;|url\(["']?(?:https?:)?//[^)]*\)""",
    re.VERBOSE,
)
log = logging.getLogger("mkdocs.plugins.repository")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add README and all outside docs/ that the navigation names or a page links to, those added among them."""
    files.append(File.generated(config, "index.md", content=(ROOT / FIRST_PAGE).read_text()))
    wanted = re.findall(r"repository/([\w./-]+)", str(config.nav))
    pages = [in_repository(file.src_uri) for file in files.documentation_pages()]
    for page in pages:  # grows by the pages that are found
        wanted += [resolved(page, match["target"]) for match in LINK.finditer((ROOT / page).read_text())]
        for path in wanted:
            uri = site_address(path)
            if files.get_file_from_path(uri) is None and not path.startswith("docs/") and (ROOT / path).is_file():
                files.append(File.generated(config, uri, abs_src_path=str(ROOT / path)))
                if path.endswith(".md"):
                    pages.append(path)
            elif files.get_file_from_path(uri) is None and (ROOT / path).is_dir():
                files.append(File.generated(config, uri, content=listing(uri, files)))
        wanted.clear()
    return files


def on_post_build(config: MkDocsConfig) -> None:
    """Warn of everything that a browser would fetch from elsewhere to show a page."""
    for path in sorted(Path(config.site_dir).rglob("*")):
        if path.suffix in (".html", ".css"):
            for match in FETCHED.finditer(path.read_text()):
                log.warning("%s fetches %s", path.name, match[0][:200])


def on_page_markdown(markdown: str, page: Page, files: Files, **_: object) -> str:
    """Links from where the page lies in the repository become links from where it lies on the site."""
    uri = page.file.src_uri
    source = in_repository(uri)

    def moved(match: re.Match[str]) -> str:
        path = resolved(source, match["target"])
        if match["before"] != "](" and files.get_file_from_path(site_address(path)) is None:
            log.warning("%s: %s is not there", source, match["target"])  # MkDocs looks at Markdown's links alone
        return match["before"] + posixpath.relpath(site_address(path), posixpath.dirname(uri) or ".")

    return LINK.sub(moved, markdown)


def resolved(page: str, target: str) -> str:
    """The path from the repository's root of what `target` means in `page`."""
    return posixpath.normpath(posixpath.join(posixpath.dirname(page), unquote(target)))


def site_address(path: str) -> str:
    """The source address of a file of the repository."""
    if path == FIRST_PAGE:
        return "index.md"
    if (ROOT / path).is_dir():
        path += "/index.md"
    return path.removeprefix("docs/") if path.startswith("docs/") else f"repository/{path}"


def in_repository(uri: str) -> str:
    """The inverse of `site_address`."""
    if uri == "index.md":
        return FIRST_PAGE
    return uri.removeprefix("repository/") if uri.startswith("repository/") else f"docs/{uri}"


def listing(uri: str, files: Files) -> str:
    """A page for a folder that a page links to: what the site has of it."""
    folder = posixpath.dirname(uri) + "/"
    inside = sorted(file.src_uri.removeprefix(folder) for file in files if file.src_uri.startswith(folder))
    return f"# {folder}\n\n" + "".join(f"- [{name}]({name})\n" for name in inside)
