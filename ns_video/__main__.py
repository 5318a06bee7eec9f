"""`python -m ns_video` is `ns-video`."""

from ns_video.cli import main

main()
