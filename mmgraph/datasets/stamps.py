"""Images, captions and audio files in the Debian package of Tux Paint's stamps."""

import io
import tarfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from mmgraph.errors import DataError
from mmgraph.files import write_bytes

ROOT = "usr/share/tuxpaint/stamps/"
MAGIC, HEADER = b"!<arch>\n", 60


def unpack_stamps(package: str | Path, folder: str | Path) -> int:
    """Write the image, the English caption and the sound effect of each stamp.

    ``animals/birds/cardinal`` becomes ``cardinal.png``, ``cardinal.txt`` and, if there
    is a sound effect, ``cardinal.ogg``, the layout of `MultimodalData.from_folder`.
    SVG drawings and captions in other languages are skipped.

    Args:
        package: File ``tuxpaint-stamps-default_*.deb``.
        folder: Folder to write to.

    Returns:
        Number of stamps.

    Raises:
        DataError: If the file is not such a package.
    """
    files = dict(_stamps(Path(package)))
    # an image without a caption is the mirror image of another stamp
    captioned = {name.with_suffix("") for name in files if name.suffix == ".txt"}
    images = [
        name
        for name in files
        if name.suffix == ".png" and name.with_suffix("") in captioned
    ]
    if not images:
        raise DataError(
            f"Package {package} must hold stamps below {ROOT}, got none. Download it: "
            "apt-get download tuxpaint-stamps-default"
        )
    for name in images:
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
                write_bytes(target.with_suffix(suffix), content)
    return len(images)


def _stamps(package: Path) -> Iterator[tuple[PurePosixPath, bytes]]:
    """Yield the path and the content of every file below the folder of the stamps."""
    try:
        with tarfile.open(fileobj=io.BytesIO(_content(package)), mode="r:*") as archive:
            for member in archive:
                name = member.name.removeprefix("./")
                file = archive.extractfile(member) if member.isfile() else None
                if file is not None and name.startswith(ROOT) and ".." not in name:
                    yield PurePosixPath(name.removeprefix(ROOT)), file.read()
    except (OSError, tarfile.TarError) as error:
        raise DataError(
            f"Package {package} must be a .deb that holds data.tar.xz, got {error}. "
            "Download it again."
        ) from None


def _content(package: Path) -> bytes:
    """Return the member of a .deb (an ar archive) that contains its files."""
    raw = package.read_bytes()
    place = len(MAGIC)
    while raw.startswith(MAGIC) and place + HEADER <= len(raw):
        name, size = raw[place : place + 16], int(raw[place + 48 : place + 58])
        place += HEADER
        if name.startswith(b"data.tar"):
            return raw[place : place + size]
        place += size + size % 2
    raise tarfile.ReadError("a file of another format")
