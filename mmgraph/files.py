"""Files: written atomically, locked against other processes, read within limits."""

import contextlib
import errno
import json
import os
import re
import reprlib
import secrets
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mmgraph import limits
from mmgraph.errors import MMGraphError

try:
    import fcntl
except ImportError:  # Windows has no advisory locks of folders
    fcntl = None  # type: ignore[assignment]

PAUSE = 0.01  # seconds between two attempts to lock
MAX_SHOWN = 80  # characters of a value in a message
# encodings by their byte-order marks; that of UTF-32 begins with that of UTF-16
ENCODINGS = {
    b"\xff\xfe\0\0": "utf-32",
    b"\0\0\xfe\xff": "utf-32",
    b"\xff\xfe": "utf-16",
    b"\xfe\xff": "utf-16",
}


# Writing


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary file in the same folder, which replaces a file at the end.

    The content is flushed to the disk before the file is renamed, and the folder after
    that. If writing fails, the existing file is unchanged. Temporary files of processes
    that were killed are deleted by the next write of the same file.

    Args:
        path: File to write. The file that a symbolic link points to is replaced, not
            the link.

    Raises:
        OSError: If the file cannot be written.
    """
    path = Path(os.path.realpath(path))
    if path.exists() and not path.is_file():
        raise OSError(errno.EINVAL, "not a regular file", str(path))
    sweep(path.parent, path)
    handle, part = _create_part(path)
    try:
        yield part
        if path.exists():
            os.chmod(part, stat.S_IMODE(path.stat().st_mode))
        os.fsync(handle)
        if fcntl is None:  # an open file cannot be renamed on Windows
            os.close(handle)
            handle = -1
        os.replace(part, path)
        sync_folder(path.parent)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
    finally:
        if handle >= 0:
            os.close(handle)


def write_bytes(path: Path, content: bytes) -> None:
    """Replace the content of a file atomically; see :func:`replacing`.

    Raises:
        OSError: If the file cannot be written.
    """
    with replacing(path) as part:
        part.write_bytes(content)


def write_text(path: Path, text: str) -> None:
    """Replace the content of a file by text in UTF-8; see :func:`replacing`.

    Raises:
        OSError: If the file cannot be written.
    """
    write_bytes(path, text.encode())


def sync_folder(folder: Path) -> None:
    """Flush the entries of a folder to the disk, where the system supports it."""
    if fcntl is None:
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:  # some network file systems cannot
        if error.errno not in (errno.EINVAL, errno.ENOTSUP, errno.EBADF):
            raise
    finally:
        os.close(handle)


def _create_part(path: Path) -> tuple[int, Path]:
    """Create a temporary file of a file, locked as long as this process writes it."""
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_CLOEXEC", 0)
    while True:
        token = secrets.token_hex(8)
        part = path.with_name(f".{path.stem[:100]}.{token}.tmp{path.suffix}")
        handle = os.open(part, flags, 0o666)
        try:
            if not _try_lock(handle) or _is_at(handle, part):
                return handle, part
        except BaseException:
            part.unlink(missing_ok=True)
            os.close(handle)
            raise
        os.close(handle)  # another process deleted it before it was locked


def sweep(folder: Path, path: Path | None = None) -> None:
    """Delete temporary files of processes that were killed.

    Args:
        folder: Folder of the files.
        path: File whose temporary files are deleted; default: all files of the folder.
    """
    name = ".*" if path is None else re.escape(f".{path.stem[:100]}")
    suffix = ".*" if path is None else re.escape(path.suffix)
    pattern = re.compile(rf"{name}\.[0-9a-f]{{16}}\.tmp{suffix}")
    with contextlib.suppress(OSError):
        for entry in os.listdir(folder):
            if entry.startswith(".") and pattern.fullmatch(entry):
                _delete_if_abandoned(folder / entry)


def _delete_if_abandoned(part: Path) -> None:
    """Delete a temporary file unless a process holds its lock."""
    with contextlib.suppress(OSError):
        handle = os.open(part, os.O_RDWR | getattr(os, "O_NONBLOCK", 0))
        try:
            if _try_lock(handle) and _is_at(handle, part):
                part.unlink()
        finally:
            os.close(handle)


def _is_at(handle: int, path: Path) -> bool:
    """Return True if an open file or folder is still the one at a path."""
    try:
        return os.path.samestat(os.fstat(handle), os.stat(path))
    except FileNotFoundError:
        return False


# Locks


@contextmanager
def locked(folder: Path, *, shared: bool = False) -> Iterator[None]:
    """Lock a folder against other processes and threads that lock it.

    The lock belongs to the folder itself: it creates no file, and ends with the
    process. File systems without locks of folders are not locked.

    Args:
        folder: Existing folder.
        shared: Allow other shared locks, for readers.

    Raises:
        OSError: If the folder does not exist, or another process holds the lock for
            longer than the limit ``lock_seconds``.
    """
    handle = _lock_folder(folder, shared)
    try:
        yield
    finally:
        if handle is not None:
            fcntl.flock(handle, fcntl.LOCK_UN)
            os.close(handle)


def _lock_folder(folder: Path, shared: bool) -> int | None:
    """Return a locked handle of a folder; None without locks."""
    if fcntl is None:
        return None
    deadline = time.monotonic() + limits.current().lock_seconds
    while True:
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            while (got := _try_lock(handle, shared=shared)) is None:
                if time.monotonic() > deadline:
                    raise OSError(errno.EBUSY, "another process saves into it")
                time.sleep(PAUSE)
            if not got or _is_at(handle, folder):
                return handle
        except BaseException:
            os.close(handle)
            raise
        os.close(handle)  # the folder was replaced in the meantime


def _try_lock(handle: int, *, shared: bool = False) -> bool | None:
    """Lock an open file; None if another process holds it, False without locks."""
    if fcntl is None:
        return False
    kind = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
    try:
        fcntl.flock(handle, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return None
    except OSError:  # a file system without locks
        return False
    return True


# Reading


def marked_encoding(start: bytes) -> str | None:
    """Return the encoding of a byte-order mark other than that of UTF-8, or None.

    Args:
        start: First bytes of a file.

    Example:
        >>> from mmgraph.files import marked_encoding
        >>> marked_encoding("x".encode("utf-16")), marked_encoding(b"x")
        ('utf-16', None)
    """
    return next((name for m, name in ENCODINGS.items() if start.startswith(m)), None)


def check_regular(
    path: Path, error: type[MMGraphError], subject: str | None = None
) -> None:
    """Refuse pipes, devices and sockets, whose reading may never end.

    Args:
        path: File to read; one that does not exist passes.
        error: Class of the exception.
        subject: Beginning of the message; default: the path.

    Raises:
        MMGraphError: If the path is neither a regular file nor a folder.
    """
    try:
        mode = path.stat().st_mode
    except (OSError, ValueError):  # reading it raises an exception of its kind
        return
    if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
        raise error(f"{subject or path} must be a regular file, got a pipe or device.")


def read_bytes(
    path: Path,
    limit: str,
    error: type[MMGraphError],
    *,
    subject: str | None = None,
    remedy: str = "",
) -> bytes:
    """Read a file of limited size.

    Args:
        path: File to read.
        limit: Name of the limit on its number of bytes.
        error: Class of the exceptions.
        subject: Beginning of messages; default: the path.
        remedy: How to correct a file that cannot be read, for the message.

    Raises:
        MMGraphError: If the file cannot be read, is not a regular file, or is too
            large.
    """
    subject = subject or str(path)
    check_regular(path, error, subject)
    most = getattr(limits.current(), limit)
    try:
        flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
        handle = os.open(path, flags)
        with os.fdopen(handle, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            content = file.read(size + 1) if size <= most else b""
    except (OSError, ValueError, MemoryError) as failure:
        reason = getattr(failure, "strerror", None) or str(failure) or "no memory"
        raise error(f"{subject} cannot be read: {reason}.", remedy) from None
    _check_size(limit, max(size, len(content)), subject, error)
    return content


def parse_document(
    content: bytes | str,
    subject: str,
    error: type[MMGraphError],
    *,
    parse: Callable[[str], Any] = json.loads,
    kind: str = "JSON",
    remedy: str = "",
) -> Any:  # noqa: ANN401
    """Parse a document of limited size and depth.

    Args:
        content: Document in UTF-8.
        subject: Name of the document in messages.
        error: Class of the exceptions.
        parse: Parser of the document.
        kind: Name of the format.
        remedy: How to correct the document.

    Raises:
        MMGraphError: If the content is not a document, has strings that UTF-8 cannot
            encode, or exceeds the limits ``document_bytes``, ``document_items`` or
            ``document_depth``.
    """
    raw = content if isinstance(content, bytes) else content.encode(errors="replace")
    _check_size("document_bytes", len(raw), subject, error)
    if len(raw) > limits.current().document_items:
        # every item is preceded by one of these; they bound the memory of the result
        items = sum(raw.count(sign) for sign in (b",", b"[", b"{", b"="))
        _check_size("document_items", items, subject, error)
    try:
        text = content.decode("utf-8-sig") if isinstance(content, bytes) else content
        document = parse(text)
        _check_structure(document)
    except (ValueError, RecursionError, MemoryError) as failure:
        got = shorten(failure)
        if isinstance(failure, RecursionError):
            got = "lists or objects that are nested too deeply"
        raise error(f"{subject} must be {kind}, got {got}.", remedy) from None
    return document


def _check_size(limit: str, size: int, subject: str, error: type[MMGraphError]) -> None:
    most = getattr(limits.current(), limit)
    if size > most:
        unit = limit.rpartition("_")[2]
        raise error(
            f"{subject} must have at most {most} {unit}, got {size}.",
            limits.remedy(limit),
        )


def _check_structure(document: object) -> None:
    """Check the depth of a document, and that its strings can be encoded.

    Raises:
        ValueError: If it is too deep, or a string contains half a surrogate pair.
    """
    deepest = limits.current().document_depth
    level, depth = [document], 0
    while level:
        if depth > deepest:
            raise ValueError(f"more than {deepest} nested levels")
        below: list[object] = []
        for value in level:
            if isinstance(value, str):
                value.encode()
            elif isinstance(value, list):
                below += value
            elif isinstance(value, dict):
                below += value
                below += value.values()
        level, depth = below, depth + 1


_values = reprlib.Repr()
_values.maxstring = _values.maxother = MAX_SHOWN


def shorten(value: object) -> str:
    """Return a value of unknown origin, or an exception, as one short line."""
    text = str(value) if isinstance(value, Exception) else _values.repr(value)
    text = " ".join(text.split()).rstrip(".") or type(value).__name__
    return text if len(text) <= 2 * MAX_SHOWN else f"{text[: 2 * MAX_SHOWN]}…"
