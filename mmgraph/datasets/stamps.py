"""Raw pictures, captions and sounds out of the Debian package of Tux Paint's stamps."""

import io
import tarfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from mmgraph.errors import DataError

ROOT = "usr/share/tuxpaint/stamps/"
MAGIC, HEADER = b"!<arch>\n", 60


def unpack_stamps(package: str | Path, folder: str | Path) -> int:
    """Write each stamp as a picture, its English caption and its sound effect.

    ``animals/birds/cardinal`` becomes ``cardinal.png``, ``cardinal.txt`` and, where
    there is one, ``cardinal.ogg``: what `MultimodalData.from_folder` reads. Stamps
    that are drawings in SVG are left out, as are captions in other languages.

    Args:
        package: File ``tuxpaint-stamps-default_*.deb``.
        folder: Folder to write into.

    Returns:
        The number of stamps.

    Raises:
        DataError: If the file is no such package.
    """
    files = dict(_stamps(Path(package)))
    # a picture without a caption is another one, mirrored
    captioned = {name.with_suffix("") for name in files if name.suffix == ".txt"}
    drawn = [name for name in files if name.suffix == ".png"]
    pictures = [name for name in drawn if name.with_suffix("") in captioned]
    if not pictures:
        raise DataError(
            f"Package {package} must hold stamps below {ROOT}, got none. Fetch it: "
            "apt-get download tuxpaint-stamps-default"
        )
    for name in pictures:
        caption = files[name.with_suffix(".txt")].decode("utf-8").split("\n")
        parts = {
            ".png": files[name],
            ".txt": caption[0].strip().encode(),
            ".ogg": files.get(name.with_suffix(".ogg"), b""),
        }
        target = Path(folder) / name
        target.parent.mkdir(parents=True, exist_ok=True)
        for suffix, content in parts.items():
            if content:
                target.with_suffix(suffix).write_bytes(content)
    return len(pictures)


def _stamps(package: Path) -> Iterator[tuple[PurePosixPath, bytes]]:
    """Yield path below the stamps and content of every regular file of them."""
    try:
        with tarfile.open(fileobj=io.BytesIO(_content(package)), mode="r:*") as archive:
            for member in archive:
                name = member.name.removeprefix("./")
                file = archive.extractfile(member) if member.isfile() else None
                if file is not None and name.startswith(ROOT) and ".." not in name:
                    yield PurePosixPath(name.removeprefix(ROOT)), file.read()
    except (OSError, tarfile.TarError) as error:
        raise DataError(
            f"Package {package} must be a .deb that holds data.tar.xz, got {error}."
        ) from None


def _content(package: Path) -> bytes:
    """Return the member of a .deb (an ar archive) that holds its files."""
    raw = package.read_bytes()
    place = len(MAGIC)
    while raw.startswith(MAGIC) and place + HEADER <= len(raw):
        name, size = raw[place : place + 16], int(raw[place + 48 : place + 58])
        place += HEADER
        if name.startswith(b"data.tar"):
            return raw[place : place + size]
        place += size + size % 2
    raise tarfile.ReadError("a file of another kind")
