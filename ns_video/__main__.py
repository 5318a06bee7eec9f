"""`python -m ns_video` is `ns-video`."""

from __future__ import annotations

import os


def main() -> None:
    """The console script. Interrupted while it still loads, it ends as it does later: quietly, with 130."""
    try:
        from ns_video.cli import main as run

        run()
    except KeyboardInterrupt:
        os._exit(130)


if __name__ == "__main__":
    main()
