"""ns-video doctor: what this machine and this installation can do."""

from __future__ import annotations

import dataclasses
from typing import Any

import click


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of text.")
def command(as_json: bool) -> None:
    """Show devices, the precisions that work on them, codecs and versions."""
    from ns_video.cli import emit
    from ns_video.device import snapshot
    from ns_video.media.versions import media_report
    from ns_video.version import __version__

    machine, media = snapshot(), media_report()
    if as_json:
        emit({"ns_video": __version__, **dataclasses.asdict(machine), "media": dataclasses.asdict(media)})
        return
    lines: list[tuple[str, Any]] = [
        ("ns-video", f"{__version__}, Python {machine.python}, PyTorch {machine.torch}"),
        ("system", f"{machine.system}, {machine.cores} cores, {', '.join(machine.cpu_features) or 'no AVX2'}"),
    ]
    for device in machine.devices:
        chosen = ", taken by --device auto" if device.name == machine.chosen else ""
        memory = f"{device.available_bytes / 2**30:.1f} of {device.memory_bytes / 2**30:.1f} GiB free"
        lines.append((f"device {device.name}", f"{device.title}, {memory}{chosen}"))
        lines += [(f"  {precision}", verdict) for precision, verdict in device.precisions.items()]
    lines.append(("libraries", ", ".join(f"{name} {version}" for name, version in media.versions.items())))
    for title, table in (("encoders", media.encoders), ("decoders", media.decoders)):
        lines.append((title, ", ".join(name for name, there in table.items() if there)))
        missing = [name for name, there in table.items() if not there]
        if missing:
            lines.append(("  not built in", ", ".join(missing)))
    lines.append(("hardware video, built in", ", ".join(media.hardware) or "none"))
    width = max(len(name) for name, _ in lines)
    for name, text in lines:
        click.echo(f"{name.ljust(width)}  {text}")
