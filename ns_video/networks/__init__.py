"""Architectures, one a file; torch only. Nothing is registered on import: `ns_video.weights` names them."""
