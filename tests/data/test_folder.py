"""Folders of pictures, texts and sounds as data; raw stamps out of their package."""

import io
import sys
import tarfile
import wave
from pathlib import Path

import numpy as np
import pytest

from mmgraph import ConfigError, DataError, MultimodalData
from mmgraph.data.features import audio, image
from mmgraph.datasets.stamps import unpack_stamps

Image = pytest.importorskip("PIL.Image", reason="Pillow is not installed")


def paint(path: Path, color: str, size: tuple[int, int] = (40, 30)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, color).save(path)
    return path


def tone(path: Path, hertz: float, width: int = 2, seconds: float = 0.5) -> Path:
    """Write a sine of half the full height."""
    rate = 16000
    x = 0.5 * np.sin(2 * np.pi * hertz * np.arange(int(rate * seconds)) / rate)
    whole = np.round(x * (1 << (8 * width - 1))).astype(np.int64)
    whole += 128 if width == 1 else 0
    cells = (whole[:, None] >> (8 * np.arange(width))) & 255
    with wave.open(str(path), "wb") as file:
        file.setparams((1, width, rate, len(x), "NONE", ""))
        file.writeframes(cells.astype(np.uint8).tobytes())
    return path


@pytest.fixture
def folder(tmp_path):
    """Two birds and a lonely text; hidden files and others are beside them."""
    paint(tmp_path / "birds" / "robin.png", "red")
    (tmp_path / "birds" / "robin.txt").write_text("A red bird.\n", encoding="utf-8")
    tone(tmp_path / "birds" / "robin.wav", 3000)
    paint(tmp_path / "birds" / "jay.JPG", "blue")
    (tmp_path / "poem.txt").write_text("A rosé is a rosé", encoding="utf-8")
    (tmp_path / ".hidden.txt").write_text("no")
    (tmp_path / "birds" / "notes.md").write_text("no")
    return tmp_path


def test_files_of_one_stem_are_one_sample(folder):
    data = MultimodalData.from_folder(folder)
    assert data.ids.tolist() == ["birds/jay", "birds/robin", "poem"]
    assert data.modalities == ("image", "text", "sound")
    assert data.present.tolist() == [[1, 0, 0], [1, 1, 1], [0, 1, 0]]
    assert data.columns["text"].values.tolist() == ["A red bird.", "A rosé is a rosé"]
    assert data.columns["image"].channels == image.NUM_IMAGE_FEATURES
    assert data.columns["sound"].channels == audio.NUM_AUDIO_FEATURES


def test_folder_may_hold_one_kind_alone(tmp_path):
    for name in ("a", "b"):
        (tmp_path / f"{name}.txt").write_text(name)
    assert MultimodalData.from_folder(tmp_path).modalities == ("text",)


def test_pictures_of_other_colours_and_edges_differ(tmp_path):
    red = image.describe_image(paint(tmp_path / "a.png", "red"))
    same = image.describe_image(paint(tmp_path / "b.png", "red", (90, 70)))
    blue = image.describe_image(paint(tmp_path / "c.png", "blue"))
    np.testing.assert_allclose(red, same, atol=1e-6)
    assert np.linalg.norm(red - blue) > 5
    assert red[:3].tolist() == [1, 0, 0]
    stripes = np.zeros((64, 64), dtype=np.uint8)
    stripes[:, ::8] = 255
    Image.fromarray(stripes).save(tmp_path / "d.png")
    Image.fromarray(stripes.T.copy()).save(tmp_path / "e.png")
    upright, flat = (image.describe_image(tmp_path / f"{n}.png") for n in "de")
    assert np.abs(upright[192:320] - flat[192:320]).max() > 0.1


def test_transparent_ground_is_white(tmp_path):
    Image.new("RGBA", (20, 20), (255, 0, 0, 0)).save(tmp_path / "a.png")
    clear = image.describe_image(tmp_path / "a.png")
    white = image.describe_image(paint(tmp_path / "b.png", "white"))
    np.testing.assert_array_equal(clear, white)


@pytest.mark.parametrize("width", [1, 2, 3, 4])
def test_wave_files_of_any_width_say_the_same(tmp_path, width):
    x, rate = audio.read_audio(tone(tmp_path / "a.wav", 440, width))
    assert rate == 16000
    expected = 0.5 * np.sin(2 * np.pi * 440 * np.arange(8000) / 16000)
    np.testing.assert_allclose(x, expected, atol=2.0 ** (1 - 8 * width))


def test_higher_tones_are_in_higher_bands(tmp_path):
    low, high = (
        audio.describe_audio(tone(tmp_path / f"{hertz}.wav", hertz))[: audio.BANDS]
        for hertz in (300, 4000)
    )
    assert low.argmax() < high.argmax()


def test_other_sounds_are_read_by_soundfile(tmp_path):
    soundfile = pytest.importorskip("soundfile", reason="soundfile is not installed")
    x, rate = audio.read_audio(tone(tmp_path / "a.wav", 440))
    soundfile.write(tmp_path / "a.flac", x, rate)
    soundfile.write(tmp_path / "b.wav", x, rate, subtype="FLOAT")
    for name in ("a.flac", "b.wav"):
        found, _ = audio.read_audio(tmp_path / name)
        np.testing.assert_allclose(found, x, atol=1e-4)


def test_short_sounds_are_described(tmp_path):
    row = audio.describe_audio(tone(tmp_path / "a.wav", 440, seconds=0.01))
    assert np.isfinite(row).all()
    with pytest.raises(DataError, match="must hold audio, got a file without samples"):
        audio.describe_audio(tone(tmp_path / "b.wav", 440, seconds=0))


def test_files_that_are_not_what_they_say_are_named(tmp_path):
    wrong = {"a.png": "must be an image", "b.wav": "must be a WAV file"}
    for name, message in wrong.items():
        path = tmp_path / name[0] / name
        path.parent.mkdir()
        path.write_bytes(b"nothing of the kind")
        with pytest.raises(DataError, match=f"{name} {message}"):
            MultimodalData.from_folder(path.parent)
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / "c.txt").write_bytes(b"caf\xe9")
    with pytest.raises(DataError, match=r"must be text in UTF-8, got .* at byte 3"):
        MultimodalData.from_folder(tmp_path / "c")


def test_broken_sound_of_another_kind_is_named(tmp_path):
    pytest.importorskip("soundfile", reason="soundfile is not installed")
    (tmp_path / "a.ogg").write_bytes(b"nothing of the kind")
    with pytest.raises(DataError, match=r"a\.ogg must be an audio file, got"):
        MultimodalData.from_folder(tmp_path)


def test_folders_that_cannot_be_read_are_told(folder, tmp_path):
    with pytest.raises(DataError, match="Folder must exist, got"):
        MultimodalData.from_folder(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"files that end in .*\.png, .*got none"):
        MultimodalData.from_folder(tmp_path / "empty")
    paint(folder / "birds" / "robin.jpg", "red")
    with pytest.raises(DataError, match=r"one image file per name, got robin"):
        MultimodalData.from_folder(folder)


def test_missing_libraries_are_named(folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "soundfile", None)
    (folder / "a.ogg").write_bytes(b"")
    with pytest.raises(ConfigError, match=r"a\.ogg needs soundfile.*mmgraph\[files\]"):
        MultimodalData.from_folder(folder)
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(ConfigError, match=r"Images need Pillow.*mmgraph\[files\]"):
        MultimodalData.from_folder(folder)


def package(path: Path, files: dict[str, bytes]) -> Path:
    """Write a .deb that holds these files."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:xz") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    raw = b"!<arch>\n"
    for name, content in (
        ("debian-binary", b"2.0"),
        ("data.tar.xz", buffer.getvalue()),
    ):
        raw += f"{name:16}{0:<12}{0:<6}{0:<6}{0:<8}{len(content):<10}`\n".encode()
        raw += content + b"\n" * (len(content) % 2)
    path.write_bytes(raw)
    return path


def test_stamps_are_unpacked_as_pictures_captions_and_sounds(tmp_path):
    root = "./usr/share/tuxpaint/stamps/animals/"
    picture = paint(tmp_path / "x.png", "red").read_bytes()
    deb = package(
        tmp_path / "stamps.deb",
        {
            f"{root}robin.png": picture,
            f"{root}robin.txt": "A rosé bird.\nfr.utf8=Un oiseau".encode(),
            f"{root}robin.ogg": b"song",
            f"{root}robin_desc_fr.ogg": b"speech",
            f"{root}robin_mirror.png": picture,
            f"{root}../../escape.txt": b"no",
            "./usr/share/doc/readme.txt": b"no",
        },
    )
    assert unpack_stamps(deb, tmp_path / "out") == 1
    found = sorted(p for p in (tmp_path / "out").rglob("*") if p.is_file())
    assert [p.name for p in found] == ["robin.ogg", "robin.png", "robin.txt"]
    assert found[2].read_text(encoding="utf-8") == "A rosé bird."


def test_packages_of_something_else_are_refused(tmp_path):
    with pytest.raises(DataError, match=r"must hold stamps below.*apt-get download"):
        unpack_stamps(package(tmp_path / "a.deb", {"./usr/x": b""}), tmp_path / "out")
    (tmp_path / "b.deb").write_bytes(b"!<arch>\n")
    with pytest.raises(DataError, match=r"must be a \.deb that holds data"):
        unpack_stamps(tmp_path / "b.deb", tmp_path / "out")
