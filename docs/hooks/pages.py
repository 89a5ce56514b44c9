"""What mkdocs does beyond the pages as they lie here: reference pages from the code, formulas and
diagrams without a script, links to files of the repository.

A page stays readable where it lies, on GitHub too; nothing that is made here is written down.
"""

from __future__ import annotations

import hashlib
import logging
import re
import sys
from pathlib import Path
from typing import Any

from mathml import UnknownMath, with_formulas
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

REPOSITORY = Path(__file__).resolve().parents[2]
# Of the checkout, whatever is installed.
sys.path.insert(0, str(REPOSITORY))

from tables import command_pages, main, tables  # noqa: E402

LOG = logging.getLogger("mkdocs.hooks.pages")
DIAGRAMS = REPOSITORY / "docs" / "diagrams"
# Pages of the top folder that have a place in the site.
FROM_ABOVE = {"CHANGELOG.md": "changelog.md", "CONTRIBUTING.md": "contributing.md"}
COMMANDS, IF_THERE = "reference/commands.md", ("deploy.md",)


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    config.nav = _nav(config.nav)
    return config


def _nav(entry: Any) -> Any:
    """The navigation with a page per command, and without pages that are not there yet."""
    if isinstance(entry, list):
        found = [_nav(one) for one in entry if not _absent(one)]
        return [one for one in found if one]
    if isinstance(entry, dict):
        return {
            title: [COMMANDS, *({name: f"reference/commands/{name}.md"} for name in main.commands)]
            if target == COMMANDS
            else _nav(target)
            for title, target in entry.items()
        }
    return entry


def _absent(entry: Any) -> bool:
    targets = entry.values() if isinstance(entry, dict) else (entry,)
    return any(one in IF_THERE and not (REPOSITORY / "docs" / one).exists() for one in targets)


def on_files(files: Files, config: MkDocsConfig) -> Files:
    for source, target in FROM_ABOVE.items():
        text = (REPOSITORY / source).read_text(encoding="utf-8")
        text = text.replace("](docs/", "](")
        files.append(File.generated(config, target, content=text))
    for name, text in command_pages().items():
        files.append(File.generated(config, f"reference/commands/{name}.md", content=text))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    up = "../" * page.file.src_uri.count("/")
    for source, target in FROM_ABOVE.items():
        markdown = markdown.replace(f"]({up}../{source}", f"]({up}{target}")
    markdown = re.sub(
        rf"\[([^\]]+)\]\({up}\.\./([^)#]+)\)", lambda found: _of_repository(found, page), markdown
    )
    markdown = re.sub(
        r"^<!-- tables: (\w+) -->$(?:.*?^<!-- end -->$)?",
        lambda found: tables(found[1]),
        markdown,
        flags=re.S | re.M,
    )
    markdown = re.sub(
        r"```mermaid\n(.*?)```", lambda found: _diagram(found, up), markdown, flags=re.S
    )
    try:
        # In code, whatever stands between dollars is code.
        return with_formulas(markdown)
    except UnknownMath as error:
        LOG.warning("%s: %s", page.file.src_uri, error)
        return markdown


def _of_repository(found: re.Match[str], page: Page) -> str:
    """A file that is no page of the site is named by its path."""
    words, path = found[1], found[2]
    if not (REPOSITORY / path).exists():
        LOG.warning("%s: there is no %s", page.file.src_uri, path)
    return words if path in words else f"{words} (`{path}` of the repository)"


def diagram_name(source: str) -> str:
    return hashlib.sha256(source.encode()).hexdigest()[:16] + ".svg"


def _diagram(found: re.Match[str], up: str) -> str:
    """A picture of the diagram, made once by `python docs/pictures.py diagrams`."""
    name = diagram_name(found[1])
    if not (DIAGRAMS / name).exists():
        LOG.warning("A diagram has changed: `python docs/pictures.py diagrams` draws it anew.")
    return f'<div class="diagram" markdown>![diagram]({up}diagrams/{name})</div>'
