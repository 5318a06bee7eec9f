"""`python -m ns_video` is `ns-video`."""

from __future__ import annotations

import os
import signal


def main() -> None:
    """The console script. Interrupted while it still loads, it ends as it does later: quietly, with 130."""
    try:
        _heed("SIGTERM", "SIGHUP")
        from ns_video.cli import main as run

        run()
    except KeyboardInterrupt:
        os._exit(130)


def _heed(*names: str) -> None:
    """Have signals interrupt as Ctrl-C does, but for those that are to be ignored (nohup) and that a system lacks."""
    for name in names:
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) is signal.SIG_DFL:
            signal.signal(number, signal.default_int_handler)


if __name__ == "__main__":
    main()
