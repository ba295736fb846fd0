"""`zos lab watch`: a lab as a page in the browser."""

from __future__ import annotations

import html
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

import click

from netlab.cli.which import choose, lab_argument
from zos_core.cli import output
from zos_core.cli.command import command

if TYPE_CHECKING:
    from netlab.supervisor.places import Place

_PORT_MAX = 65_535


@command("watch")
@lab_argument
@click.option(
    "--port", type=click.IntRange(0, _PORT_MAX), default=0, help="Listen here; 0: any free port."
)
@click.option("--open", "opens", is_flag=True, help="Open it in the browser.")
def watch(lab: str | None, port: int, opens: bool) -> None:
    """Serve a page that shows a lab as it changes, and as it was a moment ago.

    It listens on the loopback address and its own address holds a secret, which is printed. It
    only shows. It ends with the lab, or with Ctrl-C. From elsewhere: ssh -L PORT:127.0.0.1:PORT.

    \b
    Examples:
      zos lab watch
      zos lab watch two-homes --port 8080 --open
    """
    import asyncio

    asyncio.run(_serve(choose(lab), port, opens=opens))


@contextmanager
def _leading_to(address: str) -> Iterator[None]:
    """The browser opens it, by way of a file: others on the machine can read its arguments.

    The file is this user's alone and gone with the page.
    """
    with tempfile.TemporaryDirectory(prefix="zos-lab-") as directory:  # 0700
        file = Path(directory) / "watch.html"
        file.touch(0o600)
        file.write_text(f'<meta http-equiv="refresh" content="0; url={html.escape(address)}">\n')
        click.launch(str(file))
        yield


async def _serve(place: Place, port: int, *, opens: bool) -> None:
    from netlab.watch.server import Page, serving
    from netlab.watch.source import LivingLab
    from overlay.errors import Unavailable

    page = Page(LivingLab(place))
    try:
        async with serving(page, port=port) as address:
            output.show({"url": address, "lab": place.name}, address)
            output.say(f"watching {place.name}; Ctrl-C ends it")
            with _leading_to(address) if opens else nullcontext():
                await page.run()
    except OSError as exc:
        raise Unavailable(
            f"port {port}: {exc.strerror}", field="--port", remedy="give another one, or 0"
        ) from exc
    output.say(page.last_words)
