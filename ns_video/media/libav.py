"""Opening containers safely, and foreign errors translated at one place."""

from __future__ import annotations

import atexit
import errno
import os
import select
import stat
import threading
import warnings
from collections.abc import Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import IO, Any, TypeVar

import av
import av.container
import av.error
import av.logging
from av.container import OutputContainer
from av.sidedata.sidedata import Type as SideDataType

from ns_video.errors import DownstreamClosed, InputError, NsVideoError, OutputError, UsageError, printable
from ns_video.media.animation_header import is_animated_png

Item = TypeVar("Item")

# Demuxers that read one file or pipe and nothing else. Left out on purpose: concat, hls, dash, image2, lavfi, rtp, sdp
# and every other demuxer that opens what a file names (libavformat's format_whitelist).
_DEMUXERS = (
    "aac,ac3,aiff,amr,apng,asf,ass,au,av1,avi,avs2,avs3,caf,dirac,dnxhd,dts,dv,eac3,evc,flac,flv,gif,gxf,h261,h263,h264,"
    "hevc,ico,ipmovie,ivf,jpeg_pipe,m4v,matroska,webm,mjpeg,mjpeg_2000,mov,mp4,m4a,3gp,3g2,mj2,mp3,mpeg,mpegts,"
    "mpegtsraw,mpegvideo,mpjpeg,mxf,nsv,nut,obu,ogg,png_pipe,bmp_pipe,tiff_pipe,webp_pipe,gif_pipe,pva,qoi_pipe,rawvideo,"
    "real,rm,rl2,roq,sbg,smjpeg,smk,srt,swf,thp,tta,tty,vc1,vc1test,vob,voc,vvc,wav,webvtt,wtv,yuv4mpegpipe"
)
_CARRIERS: dict[str, tuple[str, ...]] = {
    "ftp": ("tcp",),
    "http": ("tcp",),
    "https": ("tls", "tcp"),
    "rtmp": ("tcp",),
    "tls": ("tcp",),
}
"""Protocols that a protocol is made of; libav wants each of them allowed."""
_LFS_MAGIC = b"version https://git-lfs.github.com/spec/"
_STANDARD_INPUT = 0  # its descriptor
EXTERNAL_ERROR = av.error.tag_to_code(b"EXT ")
"""errno of libav's errors where a library that it calls fails (AVERROR_EXTERNAL)."""
_FIFO_WAIT_SECONDS = 4.0  # a named pipe that nobody opens for writing is reported, not waited for


def _unknown_side_data(value: object) -> SideDataType:
    made = object.__new__(SideDataType)
    made._name_, made._value_ = f"UNKNOWN_{value}", value
    return made


# PyAV 18 reads none of a frame's side data where it has no name for one of them, as for EXIF (AV_FRAME_DATA_EXIF, 31).
SideDataType._missing_ = _unknown_side_data


def file_url(path: str | os.PathLike[str]) -> str:
    """The libav URL of a local file, whatever characters its name holds. `-` is for the caller to handle."""
    return "file:" + os.path.abspath(os.fspath(path))  # noqa: PTH100 - Path.absolute() does not collapse "./-x"


def is_url(name: str) -> bool:
    """Whether a name asks for a libav protocol: `scheme://…`, and no file of that name exists."""
    return "://" in name and not Path(name).exists()


def check_input_file(path: Path) -> None:
    """Tell apart what can't be opened. Raises InputError with a reason a user can act on."""
    try:
        status = path.stat()
    except FileNotFoundError:
        raise InputError(f"{printable(path)}: no such file", stage="open") from None
    except OSError as error:
        raise InputError(f"{printable(path)}: {error.strerror}", stage="open") from error
    if stat.S_ISDIR(status.st_mode):
        raise InputError(
            f"{printable(path)} is a folder", stage="open", remedy="name a file; `ns-video batch` restores folders"
        )
    if stat.S_ISFIFO(status.st_mode):
        return
    if stat.S_ISREG(status.st_mode) and status.st_size == 0:
        raise InputError(f"{printable(path)} is an empty file", stage="open")
    try:
        with path.open("rb") as file:
            head = file.read(64)
    except OSError as error:
        raise InputError(f"{printable(path)}: {error.strerror}", stage="open") from error
    if head.startswith(_LFS_MAGIC):
        raise InputError(
            f"{printable(path)} is a git-lfs pointer, not the file itself", stage="open", remedy="run `git lfs pull`"
        )


def check_demuxer(name: str) -> None:
    """Raises UsageError for a format that libav doesn't read: PyAV opens what is only written as if none were named."""
    try:
        av.ContainerFormat(name, "r")
    except ValueError:
        raise UsageError(f"libav reads no format {name!r}", remedy="`ffmpeg -demuxers` lists what it reads") from None


def open_input(
    source: str | Path | IO[bytes],
    *,
    container_format: str | None = None,
    options: Mapping[str, str] | None = None,
    allow_protocols: Sequence[str] = (),
    buffer_bytes: int = 1 << 18,
) -> av.container.InputContainer:
    """Open a file, `-` (standard input) or a binary file object for reading.

    Only files and pipes are read, and only by demuxers that open nothing else, unless `allow_protocols` names more.
    Raises InputError; UsageError for a protocol that is not allowed, and for a format or an option that nothing knows.
    """
    if container_format is not None:
        check_demuxer(container_format)
    carriers = [carrier for protocol in allow_protocols for carrier in _CARRIERS.get(protocol, ())]
    settings = {"protocol_whitelist": ",".join(("file", "pipe", "data", "crypto", *allow_protocols, *carriers))}
    target: Any
    if isinstance(source, (str, Path)):
        name = str(source)
        if name == "-":
            target = _CountedPipe("pipe:0", _STANDARD_INPUT)
            settings["protocol_whitelist"] = "pipe"
        elif is_url(name):
            protocol = name.partition("://")[0].lower()
            if protocol not in allow_protocols:
                raise UsageError(
                    f"{printable(name)}: the protocol {protocol!r} is not allowed",
                    remedy=f"--allow-protocol {protocol}",
                )
            target = name
        else:
            check_input_file(Path(name))
            target = _named_pipe(Path(name)) if Path(name).is_fifo() else file_url(name)
            settings["protocol_whitelist"] = "file"
            if container_format is None and Path(name).is_file() and is_animated_png(Path(name)):
                container_format = "apng"
    else:
        name, target = "input", source
    if not allow_protocols:
        settings["format_whitelist"] = _DEMUXERS
    settings.update(options or {})
    try:
        container = av.open(
            target,
            "r",
            format=container_format,
            options=settings,
            metadata_errors="surrogateescape",
            buffer_size=buffer_bytes,
        )
    except (av.FFmpegError, OSError, ValueError) as error:
        if container_format == "rawvideo" and isinstance(error, av.error.ArgumentError):
            raise UsageError(
                "raw video without its size, or with a size, pixel format or rate that libav doesn't know",
                remedy="--input-option video_size=WxH; pixel_format and framerate where they aren't yuv420p and 25",
            ) from error
        empty = isinstance(target, _CountedPipe) and not target.nbytes
        raise _input_error(error, name, container_format, is_empty=empty) from error
    if options and not allow_protocols:
        trial = target if isinstance(target, str) and Path(name).is_file() else None
        if unknown := _unknown_option(trial, container.format.name.partition(",")[0], settings, list(options)):
            container.close()
            raise UsageError(
                f"libav has no input option {unknown!r} for {container.format.name}",
                remedy="`ffmpeg -h demuxer=NAME` lists a format's options",
            )
    if isinstance(target, _CountedPipe):
        target.opened(container.format.name)
    return container  # pyright: ignore[reportReturnType] - mode "r" gives an input container


_TAKING_EACH_TEXT = frozenset(
    {"codec_whitelist", "dump_separator", "format_whitelist", "protocol_blacklist", "protocol_whitelist"}
)
"""All such options of AVFormatContext and of the demuxers that are read."""
_NO_VALUE = "?"  # of any other option


def _unknown_option(
    url: str | None, container_format: str, settings: Mapping[str, str], names: Sequence[str]
) -> str | None:
    """The first of `names` whose value makes no difference to how libav opens a file (None: nothing at all).

    It leaves options that it doesn't know without a word, and PyAV doesn't pass on which ones.
    """

    def outcome(name: str) -> tuple[object, ...]:
        lines: list[LogLine] = []
        try:
            with own_log(lines):
                given = {**settings, name: _NO_VALUE}  # `options` would go to decoders, too
                av.open(url or BytesIO(), format=container_format, container_options=given).close()
        except (av.FFmpegError, OSError, ValueError) as error:
            return type(error), *lines
        return (None, *lines)

    ignored = outcome("")
    return next((name for name in names if name not in _TAKING_EACH_TEXT and outcome(name) == ignored), None)


_KEPT_HEADS = frozenset({"nut", "mpegts"})


class _CountedPipe:
    """A pipe that libav reads from through PyAV: where it ended, libav's own protocol keeps to itself."""

    def __init__(self, name: str, descriptor: int) -> None:
        self.name = name
        self.nbytes = 0
        self.head = b""
        """What libav read to know the streams, of a container that tells them badly."""
        self._probed: list[bytes] | None = []
        self._descriptor = descriptor

    def read(self, size: int) -> bytes:
        data = os.read(self._descriptor, size)
        self.nbytes += len(data)
        if self._probed is not None:
            self._probed.append(data)
        return data

    def opened(self, container_format: str) -> None:
        """Nothing more is kept from here on."""
        self.head, self._probed = b"".join(self._probed or ()) if container_format in _KEPT_HEADS else b"", None

    def __del__(self) -> None:
        if self._descriptor != _STANDARD_INPUT:
            os.close(self._descriptor)


def _named_pipe(path: Path) -> _CountedPipe:
    """Held open from the first look on: its writer must not find itself without a reader. Raises InputError."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    except OSError as error:
        raise InputError(f"{printable(path)}: {error.strerror}", stage="open") from error
    pipe = _CountedPipe(file_url(path), descriptor)
    if not select.select([descriptor], [], [], _FIFO_WAIT_SECONDS)[0]:
        raise InputError(f"nobody writes to the pipe {printable(path)}", stage="open")
    os.set_blocking(descriptor, True)
    return pipe


def bytes_of(container: Any) -> int:
    """Bytes of the whole input, of a pipe those that came; negative where that can't be told."""
    file = container.file and container.file.file
    return file.nbytes if isinstance(file, _CountedPipe) else container.size


def head_of(container: Any) -> bytes:
    """What came through a pipe of NUT or MPEG-TS until it was open; of what is none, nothing."""
    file = container.file and container.file.file
    return file.head if isinstance(file, _CountedPipe) else b""


def _input_error(error: Exception, name: str, container_format: str | None, *, is_empty: bool) -> NsVideoError:
    shown = "standard input" if name == "-" else printable(name)
    text = getattr(error, "strerror", None) or str(error)
    if isinstance(error, av.error.ProtocolNotFoundError):
        return UsageError(f"{shown}: this protocol is not supported")
    if is_empty and isinstance(error, (av.error.InvalidDataError, av.error.ArgumentError, av.error.EOFError)):
        return InputError(f"{shown}: nothing came through the pipe", stage="open")
    if isinstance(error, av.error.InvalidDataError):
        if name == "-":
            return InputError(
                f"{shown} holds nothing that libav recognises; an mp4/mov with its index at the end can't be piped",
                stage="open",
                remedy="give the file itself, or remux with `-movflags +faststart`",
            )
        if _looks_encrypted(name):
            return InputError(
                f"{shown} is encrypted (Common Encryption); it can't be decoded without its key", stage="open"
            )
        return InputError(f"{shown} is not a media file that libav recognises, or its header is damaged", stage="open")
    if isinstance(error, (av.error.EOFError, EOFError)):
        return InputError(f"{shown} ends before any media begins", stage="open")
    if isinstance(error, (av.error.ArgumentError, ValueError)):
        if container_format in _DEMUXERS.split(","):
            return InputError(f"{shown} can't be read as {container_format}: {text}", stage="open")
        if container_format is not None:
            return UsageError(f"the format {container_format!r} may name other files: it is not read")
        if (kind := _other_picture(name)) is not None:
            return InputError(
                f"{shown} is a picture ({kind}), but no JPEG, PNG, WebP, TIFF, BMP or AVIF",
                stage="open",
                remedy="convert it to PNG, with ffmpeg for example",
            )
        return InputError(
            f"{shown} can't be read: its header is damaged ({text}), or its format may name other files, or holds "
            "pictures that are no JPEG, PNG, WebP, TIFF, BMP or AVIF",
            stage="open",
            remedy="convert it with ffmpeg",
        )
    return InputError(f"{shown}: {text}", stage="open")


def not_streamable(shown: str) -> InputError:
    """An mp4 whose index came after the samples it points back to, through a pipe."""
    return InputError(
        f"{shown} is an mp4/mov with its index at the end; that can't be read from a pipe",
        stage="open",
        remedy="give the file itself, or remux with `-movflags +faststart`",
    )


def _other_picture(name: str) -> str | None:
    """What Pillow calls the format of a picture; None where it knows none."""
    from PIL import Image

    try:
        if not Path(name).is_file():  # a pipe would be waited for
            return None
        with warnings.catch_warnings(action="ignore"), Image.open(name) as picture:  # it is large, Pillow would say
            return picture.format_description or picture.format
    except Exception:  # Pillow's readers raise whatever their parsing runs into
        return None


def _looks_encrypted(name: str) -> bool:
    """Whether an mp4 carries a protected sample entry (ISO/IEC 23001-7: `encv` with a `sinf` box)."""
    try:
        with Path(name).open("rb") as file:
            head = file.read(1 << 20)
    except OSError:
        return False
    return b"encv" in head and b"sinf" in head


def translate_output(error: Exception, path: str, stage: str, *, resumes: bool = False) -> NsVideoError:
    """A libav or system error while writing, as an error a user can act on; `resumes`: by --resume, too."""
    number = getattr(error, "errno", None)
    if isinstance(error, BrokenPipeError) or number == errno.EPIPE:
        return DownstreamClosed("the reader of the output closed it", stage=stage)
    if number == errno.ENOSPC:
        return OutputError(
            f"no space left on the device while writing {printable(path)}",
            stage=stage,
            remedy=f"free some space and run again{' with --resume' if resumes else ''}",
        )
    if number == errno.EACCES:
        return OutputError(f"no permission to write {printable(path)}", stage=stage)
    text = getattr(error, "strerror", None) or str(error)
    return OutputError(f"{printable(path)}: {text}", stage=stage)


_log_lock = threading.Lock()
_listeners = 0
_shared: Any = None  # the Capture of what is said in threads that no `own_log` listens to
_shared_taken = False

LogLine = tuple[int, str, str]
"""(level, who, text)"""


def _silence() -> None:
    av.logging.set_level(None)


atexit.register(_silence)


@contextmanager
def _listening() -> Generator[list[LogLine]]:
    """Have libav tell its errors while the block runs; those of threads that don't listen themselves, to all blocks.

    (PyAV's own captures are a stack: a block that ends before one that was opened after it would take that one's list
    along.)
    """
    global _listeners, _shared
    with _log_lock:
        _listeners += 1
        if _listeners == 1:
            av.logging.set_level(av.logging.ERROR)
            av.logging.set_skip_repeated(False)
            _shared = av.logging.Capture(local=False)
            _shared.__enter__()
        lines = _shared.logs
    try:
        yield lines
    finally:
        with _log_lock:
            _listeners -= 1
            if _listeners == 0:
                _shared.__exit__(None, None, None)
                _shared = None
                _silence()


@contextmanager
def workers_log(wanted: bool = True) -> Generator[list[LogLine] | None]:
    """libav's error lines from the threads of a decoder while the block runs.

    libav reports a file that was cut short nowhere else, and doesn't say whose thread it was. So one block at a time
    has them; the others get None, and are to decode in their own thread, where `own_log` hears all.

    Whoever closes a decoder calls `at_rest` first: its threads need the interpreter's lock to log, and PyAV frees
    a decoder, which waits for those threads, while it holds that lock.
    """
    global _shared_taken
    with _listening() as lines:
        with _log_lock:
            taken = wanted and not _shared_taken
            _shared_taken |= taken
            if taken:
                lines.clear()
        try:
            yield lines if taken else None
        finally:
            if taken:
                _shared_taken = False


@contextmanager
def own_log(lines: list[LogLine]) -> Generator[None]:
    """Add to `lines` what libav says in this thread while the block runs."""
    with _listening(), av.logging.Capture(local=True) as new:
        try:
            yield
        finally:
            lines += new


def heard(items: Iterable[Item], lines: list[LogLine]) -> Generator[Item]:
    """The items, and in `lines` what libav says in this thread while it makes them."""
    iterator = iter(items)
    while True:
        with own_log(lines):
            try:
                item = next(iterator)
            except StopIteration:
                return
        yield item


@contextmanager
def muted_log() -> Generator[None]:
    """What libav says in this thread while the block runs is no news of the input: encoders, muxers, trials."""
    with av.logging.Capture(local=True):
        yield


@contextmanager
def traced_log() -> Generator[list[LogLine]]:
    """libav's informational lines of this thread while the (short) block runs, as (level, who, text)."""
    with _log_lock:
        av.logging.set_level(av.logging.INFO)
        try:
            with av.logging.Capture(local=True) as lines:
                yield lines
        finally:
            av.logging.set_level(av.logging.ERROR if _listeners else None)


def at_rest(context: Any) -> None:
    """Wait until no thread of a decoder works, without holding the interpreter's lock. Harmless for a closed one."""
    try:
        context.flush_buffers()
    except (av.FFmpegError, ValueError, AttributeError):
        return


def abandon(container: OutputContainer) -> None:
    """Close without caring for the file."""
    try:
        container.close()
    except (av.FFmpegError, ValueError, OSError):
        return
