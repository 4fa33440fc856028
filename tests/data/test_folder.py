"""Folders of image, text and audio files; unpacking of the raw stamps."""

import contextlib
import io
import os
import sys
import tarfile
import unicodedata
import wave
from pathlib import Path

import numpy as np
import pytest
from scipy.io import wavfile

from mmgraph import (
    ConfigError,
    DataError,
    DataWarning,
    Modality,
    MultimodalData,
    Schema,
    limits,
)
from mmgraph.data.features import audio, image
from mmgraph.data.features.image import open_image
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
    """Two birds and a single text, with hidden and other files."""
    paint(tmp_path / "birds" / "robin.png", "red")
    (tmp_path / "birds" / "robin.txt").write_text("A red bird.\n", encoding="utf-8")
    tone(tmp_path / "birds" / "robin.wav", 3000)
    paint(tmp_path / "birds" / "jay.JPG", "blue")
    (tmp_path / "poem.txt").write_text("A rosé is a rosé", encoding="utf-8")
    (tmp_path / ".hidden.txt").write_text("no")
    (tmp_path / "birds" / "Thumbs.db").write_text("no")
    return tmp_path


def test_files_of_one_stem_are_one_sample(folder):
    data = MultimodalData.from_folder(folder)
    assert data.ids.tolist() == ["birds/jay", "birds/robin", "poem"]
    assert data.modalities == ("image", "text", "sound")
    assert data.present.tolist() == [[1, 0, 0], [1, 1, 1], [0, 1, 0]]
    assert data.columns["text"].values.tolist() == ["A red bird.", "A rosé is a rosé"]
    assert data.columns["image"].channels == image.NUM_IMAGE_FEATURES
    assert data.columns["sound"].channels == audio.NUM_AUDIO_FEATURES


def test_files_that_are_not_read_are_named(folder):
    (folder / "birds" / "notes.md").write_text("no")
    (folder / "wren.heic").write_text("no")
    (folder / "crow.png").symlink_to(folder / "nowhere.png")
    message = "3 files are not read: birds/notes.md, crow.png, wren.heic. Files of"
    with pytest.warns(DataWarning, match=message):
        assert len(MultimodalData.from_folder(folder)) == 3


def test_names_match_in_either_unicode_normal_form(tmp_path):
    name = "Müller_café"
    composed, decomposed = (unicodedata.normalize(f, name) for f in ("NFC", "NFD"))
    paint(tmp_path / f"{composed}.TIF", "red")
    (tmp_path / f"{decomposed}.txt").write_bytes("\ufeffa slide".encode())
    data = MultimodalData.from_folder(tmp_path)
    assert data.ids.tolist() == [composed]
    assert data.present.all()
    assert data.columns["text"].values.tolist() == ["a slide"]


def test_folder_may_hold_one_kind_alone(tmp_path):
    for name in ("a", "b"):
        (tmp_path / f"{name}.txt").write_text(name)
    assert MultimodalData.from_folder(tmp_path).modalities == ("text",)


def test_image_features_depend_on_colors_and_edges(tmp_path):
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


def save(stored, path: Path, **options) -> np.ndarray:
    """Write an image; return it as it is read."""
    stored.save(path, **options)
    return np.asarray(open_image(path), dtype=int)


def test_the_orientation_in_exif_is_applied(tmp_path):
    x = np.zeros((60, 40, 3), np.uint8)
    x[:20] = [255, 0, 0]
    upright = Image.fromarray(x)
    turns = {3: 180, 6: 90, 8: 270}  # by which a viewer turns clockwise
    for tag, degrees in turns.items():
        exif = Image.Exif()
        exif[0x0112] = tag
        stored = upright.rotate(degrees, expand=True)
        for suffix in (".png", ".jpg", ".tif", ".webp"):
            seen = save(stored, tmp_path / f"a{suffix}", exif=exif)
            assert seen.shape == x.shape
            assert np.abs(seen - x).mean() < 2
    assert np.asarray(open_image(tmp_path / "a.png", version=1)).shape == (40, 60, 3)


def test_images_of_every_mode_are_read_as_a_viewer_shows_them(tmp_path):
    ramp = np.tile(np.linspace(0, 255, 16).round().astype(np.uint8), (8, 1))
    gray = Image.fromarray(ramp)
    color = Image.merge("RGB", [gray, gray.rotate(180), gray])
    fractions = np.where(ramp == 0, np.nan, ramp / 255).astype(np.float32)
    cases = {
        "l.png": (gray, ramp),
        "la.png": (Image.merge("LA", [gray, Image.new("L", (16, 8), 255)]), ramp),
        "i16.png": (Image.fromarray(ramp.astype(np.uint16) * 257), ramp),
        "i16.tif": (Image.fromarray(ramp.astype(np.uint16) * 257), ramp),
        "i32.tif": (Image.fromarray(ramp.astype(np.int32) * 257), ramp),
        "float.tif": (Image.fromarray(fractions), np.where(ramp == 0, 255, ramp)),
        "one.png": (gray.convert("1", dither=0), np.where(ramp > 127, 255, 0)),
        "p.gif": (color.quantize(256), np.asarray(color)),
        "cmyk.tif": (color.convert("CMYK"), np.asarray(color)),
        "rgb.ppm": (color, np.asarray(color)),
    }
    for name, (stored, expected) in cases.items():
        seen = save(stored, tmp_path / name)
        expected = expected if expected.ndim == 3 else expected[..., None]
        assert np.abs(seen - expected).max() <= 2, name


def test_the_first_frame_of_several_is_read(tmp_path):
    frames = [Image.new("RGB", (8, 8), color) for color in ("red", "blue")]
    for name in ("a.gif", "a.tif", "a.webp", "a.png"):
        options = {"save_all": True, "append_images": frames[1:]}
        seen = save(frames[0], tmp_path / name, **options)
        assert np.abs(seen - [255, 0, 0]).max() < 10, name


def test_values_without_a_scale_are_errors(tmp_path):
    Image.fromarray(np.full((4, 4), 300, np.float32)).save(tmp_path / "a.tif")
    with pytest.raises(
        DataError, match=r"a\.tif must be an image, got floating-point v"
    ):
        open_image(tmp_path / "a.tif")
    Image.fromarray(np.full((4, 4), -1024, np.int32)).save(tmp_path / "b.tif")
    with pytest.raises(DataError, match=r"from -1024 to 0 instead of 0 to 65535; conv"):
        open_image(tmp_path / "b.tif")


def test_images_of_more_pixels_than_the_limit_are_refused(tmp_path):
    paint(tmp_path / "a.png", "red")
    with (
        limits.override(pixels=1000),
        pytest.raises(
            DataError, match=r"a\.png must have at most 1000 pixels, got 1200"
        ),
    ):
        open_image(tmp_path / "a.png")
    (tmp_path / "b.pgm").write_bytes(b"P5 40000 50000 255 ")
    with pytest.raises(DataError, match=r"b\.pgm must have fewer pixels, .*MAX_IMAGE"):
        open_image(tmp_path / "b.pgm")


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".gif", ".tif", ".webp", ".bmp"])
def test_damaged_images_are_named(tmp_path, suffix):
    rng = np.random.default_rng(0)
    noise = Image.fromarray(rng.integers(0, 255, (16, 16, 3), dtype=np.uint8))
    path = tmp_path / f"a{suffix}"
    noise.save(path)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(DataError, match=rf"a\{suffix} must be an image, got"):
        open_image(path)
    for _ in range(30):
        changed = bytearray(content)
        changed[int(rng.integers(len(content)))] ^= 1 << int(rng.integers(8))
        path.write_bytes(changed)
        with contextlib.suppress(DataError):
            open_image(path)


def test_pipes_are_refused(tmp_path):
    os.mkfifo(tmp_path / "a.png")
    for read in (open_image, audio.read_audio):
        with pytest.raises(
            DataError, match=r"a\.png must be a regular file, got a pipe"
        ):
            read(tmp_path / "a.png")


def test_transparent_pixels_are_white(tmp_path):
    Image.new("RGBA", (20, 20), (255, 0, 0, 0)).save(tmp_path / "a.png")
    clear = image.describe_image(tmp_path / "a.png")
    white = image.describe_image(paint(tmp_path / "b.png", "white"))
    np.testing.assert_array_equal(clear, white)


@pytest.mark.parametrize("width", [1, 2, 3, 4])
def test_wave_files_of_any_sample_width_are_equal(tmp_path, width):
    x, rate = audio.read_audio(tone(tmp_path / "a.wav", 440, width))
    assert rate == 16000
    expected = 0.5 * np.sin(2 * np.pi * 440 * np.arange(8000) / 16000)
    np.testing.assert_allclose(x, expected, atol=2.0 ** (1 - 8 * width))


@pytest.mark.parametrize("rate", [8000, 11025, 44100, 48000])
def test_features_of_audio_do_not_depend_on_the_sampling_rate(tmp_path, rate):
    def write(name, rate, tones, channels=1):
        t = np.arange(rate) / rate
        x = sum(0.2 * np.sin(2 * np.pi * f * t) for f in tones)
        noise = 1e-3 * np.sqrt(rate / 16000)  # of one density in Hz
        x = x + noise * np.random.default_rng(0).normal(size=len(t))
        x = np.tile(x[:, None], channels).astype(np.float32)
        wavfile.write(tmp_path / name, rate, x)
        return audio.describe_audio(tmp_path / name)

    sound = write("a.wav", 16000, (300, 900))
    other = write("b.wav", 16000, (500, 2500))
    same = write("c.wav", rate, (300, 900), channels=3)
    assert np.abs(same - sound).mean() < np.abs(other - sound).mean() / 5


def test_features_of_audio_at_16_khz_are_those_of_the_first_version(tmp_path):
    path = tone(tmp_path / "a.wav", 440)
    first = audio.describe_audio(path, version=1)
    np.testing.assert_array_equal(audio.describe_audio(path), first)


def test_damaged_and_slow_audio_is_refused(tmp_path):
    pytest.importorskip("soundfile")  # reads what SciPy does not
    path = tone(tmp_path / "a.wav", 440)
    content = path.read_bytes()
    path.write_bytes(content[:-1000])
    with pytest.raises(DataError, match=r"a\.wav must be a WAV file, got Reached EOF"):
        audio.read_audio(path)
    rng = np.random.default_rng(0)
    for _ in range(100):
        changed = bytearray(content[:200])
        changed[int(rng.integers(44))] = int(rng.integers(256))
        path.write_bytes(changed)
        with contextlib.suppress(DataError):
            audio.read_audio(path)
    for rate in (100, 2_000_000_000):
        wavfile.write(path, rate, np.zeros(100, np.int16))
        with pytest.raises(
            DataError, match=rf"from 250 to 10000000 Hz, got {rate}\. R"
        ):
            audio.describe_audio(path)
    wavfile.write(path, 8000, np.full(100, np.nan, np.float32))
    with pytest.raises(DataError, match=r"a\.wav must hold finite samples, got NaN"):
        audio.describe_audio(path)
    wavfile.write(path, 8000, np.zeros(100, np.int16))
    with (
        limits.override(audio_samples=50),
        pytest.raises(
            DataError, match=r"at most 50 samples, got 100\..*audio_samples="
        ),
    ):
        audio.describe_audio(path)


def test_higher_tones_are_in_higher_bands(tmp_path):
    low, high = (
        audio.describe_audio(tone(tmp_path / f"{hertz}.wav", hertz))[: audio.BANDS]
        for hertz in (300, 4000)
    )
    assert low.argmax() < high.argmax()


def test_other_audio_formats_are_read_by_soundfile(tmp_path):
    soundfile = pytest.importorskip("soundfile", reason="soundfile is not installed")
    x, rate = audio.read_audio(tone(tmp_path / "a.wav", 440))
    soundfile.write(tmp_path / "a.flac", x, rate)
    soundfile.write(tmp_path / "b.wav", x, rate, subtype="FLOAT")
    for name in ("a.flac", "b.wav"):
        found, _ = audio.read_audio(tmp_path / name)
        np.testing.assert_allclose(found, x, atol=1e-4)


def test_short_audio_has_features(tmp_path):
    row = audio.describe_audio(tone(tmp_path / "a.wav", 440, seconds=0.01))
    assert np.isfinite(row).all()
    with pytest.raises(DataError, match="must hold audio, got a file without samples"):
        audio.describe_audio(tone(tmp_path / "b.wav", 440, seconds=0))


def test_files_that_contradict_their_suffix_are_errors(tmp_path):
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


def test_texts_with_a_byte_order_mark_are_read(tmp_path):
    for encoding in ("utf-8-sig", "utf-16", "utf-32"):
        (tmp_path / f"{encoding}.txt").write_bytes("Größe\n".encode(encoding))
    data = MultimodalData.from_folder(tmp_path)
    assert data.columns["text"].values.tolist() == ["Größe"] * 3


def test_a_damaged_audio_file_is_an_error(tmp_path):
    pytest.importorskip("soundfile", reason="soundfile is not installed")
    (tmp_path / "a.ogg").write_bytes(b"nothing of the kind")
    with pytest.raises(DataError, match=r"a\.ogg must be an audio file, got"):
        MultimodalData.from_folder(tmp_path)


def test_unreadable_folders_are_errors(folder, tmp_path):
    with pytest.raises(DataError, match="Folder must exist, got"):
        MultimodalData.from_folder(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"files that end in .*\.png, .*got none"):
        MultimodalData.from_folder(tmp_path / "empty")
    paint(folder / "birds" / "robin.jpg", "red")
    with pytest.raises(DataError, match=r"one image file per name, got robin"):
        MultimodalData.from_folder(folder)


def test_images_are_given_by_paths_of_any_type(tmp_path):
    path = paint(tmp_path / "a.png", "red")
    schema = Schema.star([Modality("photo", kind="image")])
    for photos in (
        [path, None],
        [str(path), path],
        np.array([path, " "], dtype=object),
    ):
        data = MultimodalData.from_arrays({"photo": photos}, schema=schema)
        assert data.columns["photo"].values[0] == str(path)
        assert data.features()["photo"].shape == (2, 384)
    pixels = np.zeros((2, 8, 8, 3), np.uint8)
    for photos in (pixels, list(pixels), [Image.fromarray(pixels[0])], [pixels[0, 0]]):
        with pytest.raises(DataError, match="paths of"):
            MultimodalData.from_arrays({"photo": photos}, schema=schema)


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


def test_stamps_are_unpacked_as_images_captions_and_audio(tmp_path):
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


def test_other_packages_are_errors(tmp_path):
    with pytest.raises(DataError, match=r"must hold stamps below.*apt-get download"):
        unpack_stamps(package(tmp_path / "a.deb", {"./usr/x": b""}), tmp_path / "out")
    (tmp_path / "b.deb").write_bytes(b"!<arch>\n")
    with pytest.raises(DataError, match=r"must be a \.deb that holds data"):
        unpack_stamps(tmp_path / "b.deb", tmp_path / "out")
