"""One image file of any depth to pixels and back: PNG, JPEG, WebP, BMP, TIFF and NumPy's .npy.

Pillow turns PNGs of 16-bit colour into 8 bits without a word and reads TIFFs of many channels not at all, so `imagecodecs`
and `tifffile` read those two; Pillow reads the rest. What a file is follows from its first bytes, not from its name.
"""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

# Pillow refuses images beyond 179 megapixels, as bombs that strangers send to a server. These are the user's own files,
# and scans and aerial images are larger. There is one such number for the process.
Image.MAX_IMAGE_PIXELS = None

Pixels = NDArray[Any]  # [H, W, C], uint8, uint16 or float32
SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff", ".npy", ".bmp")
_PNG, _NPY = b"\x89PNG\r\n\x1a\n", b"\x93NUMPY"
_TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_ORIENTATION = 274
_XMP = "XML:com.adobe.xmp"  # among the texts of a PNG
_XMP_ORIENTATION = re.compile(r'tiff:Orientation="\d+"|<tiff:Orientation>\d+</tiff:Orientation>')
# what of a TIFF is kept: description, XMP, colour profile, and where on the earth it lies
_TIFF_TAGS = (270, 700, 34675, 33550, 33922, 34264, 34735, 34736, 34737, 42112, 42113)


@dataclass(frozen=True)
class Picture:
    """One image, upright, with all that its file says of it.

    `stored` is the number type of the file where `pixels` are float32 and it was another (int16 of a CT, float64).
    """

    pixels: Pixels
    alpha: NDArray[Any] | None = None  # [H, W] of the dtype of the pixels
    metadata: dict[str, Any] = field(default_factory=dict)
    stored: str = ""

    @property
    def size(self) -> tuple[int, int]:
        return int(self.pixels.shape[0]), int(self.pixels.shape[1])


@dataclass(frozen=True)
class Form:
    """What of a picture decides which formats can hold it."""

    dtype: str
    channels: int  # without alpha
    alpha: bool


def read_image(path: Path | str) -> Picture:
    """The image in a file; OSError or ValueError, with a reason in words, where it cannot be read."""
    return decoded(Path(path).read_bytes())


def decoded(content: bytes) -> Picture:
    """The image in the bytes of a file; OSError or ValueError as `read_image`."""
    try:
        return _decoded(content)
    except UnidentifiedImageError as error:  # its text names a BytesIO
        raise ValueError("not an image that can be read") from error
    except (OSError, ValueError, MemoryError):
        raise
    except Exception as error:  # whatever a torn file makes a decoder raise: struct.error, SyntaxError, ...
        said = " ".join(str(error).split()) or type(error).__name__
        raise ValueError(f"cannot be read ({said})") from error


def _decoded(content: bytes) -> Picture:
    if content.startswith(_NPY):
        return _from_npy(content)
    if content.startswith(_TIFF):
        return _from_tiff(content)
    if content.startswith(_PNG) and content[24:25] == b"\x10":  # bits a sample, in IHDR
        return _from_deep_png(content)
    return _from_pillow(content)


def write_image(path: Path | str, picture: Picture) -> None:
    """Write the picture in the format of the path's ending, whole or not at all, with its depth, alpha and metadata.

    ValueError where the format cannot hold it: .npy and .tif hold everything, .png 8 and 16 bits, .jpg, .webp and .bmp 8.
    JPEG is written at quality 95 without subsampling of colour, WebP without loss.
    """
    path = Path(path)
    content = encoded(path.suffix.lower(), picture)
    scratch = path.with_name(f".{path.name}.new")
    try:
        scratch.write_bytes(content)
        scratch.replace(path)
    finally:
        scratch.unlink(missing_ok=True)


def encoded(suffix: str, picture: Picture) -> bytes:
    """The bytes of a file with that ending."""
    pixels = picture.pixels
    check_format(suffix, Form(pixels.dtype.name, pixels.shape[2], picture.alpha is not None))
    if suffix == ".npy":
        return _to_npy(picture)
    if suffix in (".tif", ".tiff"):
        return _to_tiff(picture)
    return _to_deep_png(picture) if pixels.dtype == np.uint16 else _to_pillow(suffix, picture)


def check_format(suffix: str, form: Form) -> None:
    """Raise `ValueError` where a file with that ending cannot hold such pictures."""
    if suffix not in SUFFIXES:
        raise ValueError(
            f"{suffix or 'a name without an ending'} is no format to write; use .png, .tif or .npy"
        )
    if suffix in (".npy", ".tif", ".tiff"):
        return
    depths = ("uint8", "uint16") if suffix == ".png" else ("uint8",)
    if form.dtype not in depths or form.channels not in (1, 3):
        raise ValueError(f"{suffix} cannot hold {form.channels} channels of {form.dtype}; write .tif or .npy")
    if form.alpha and suffix not in (".png", ".webp"):
        raise ValueError(f"{suffix} cannot hold transparency; write .png, .webp or .tif")


def _as_levels(values: NDArray[Any]) -> tuple[NDArray[Any], str]:
    """Any real numbers as uint8, uint16 or float32, and the type they had if it is neither of these."""
    if values.dtype == np.bool_:
        return values.astype(np.uint8) * np.uint8(255), ""
    if values.dtype.kind not in "uif":
        raise ValueError(f"holds {values.dtype.name} and no numbers")
    values = values.astype(values.dtype.newbyteorder("="), copy=False)
    if values.dtype in (np.uint8, np.uint16):
        return values, ""
    result = values.astype(np.float32)
    if values.dtype.kind in "ui" and not np.array_equal(result.astype(np.float64), values.astype(np.float64)):
        raise ValueError(f"holds {values.dtype.name} beyond 24 bits, which float32 cannot tell apart")
    if not np.isfinite(result).all():
        raise ValueError("holds values that are not finite")
    return result, "" if values.dtype == np.float32 else values.dtype.name


def _restored(pixels: Pixels, stored: str) -> NDArray[Any]:
    """float32 pixels as the number type of the file; ValueError where it cannot hold them."""
    if pixels.dtype != np.float32 or not stored:
        return pixels
    dtype = np.dtype(stored)
    if dtype.kind not in "ui":
        return pixels.astype(dtype)
    bounds, rounded = np.iinfo(dtype), np.rint(pixels.astype(np.float64))
    if rounded.min() < bounds.min or rounded.max() > bounds.max:
        raise ValueError(f"values from {pixels.min():g} to {pixels.max():g} do not fit into {stored}")
    return rounded.astype(dtype)


def upright(array: NDArray[Any], orientation: int) -> NDArray[Any]:
    """An array [H, W, ...] turned as EXIF's orientation 1 to 8 says."""
    if orientation >= 5:
        array = array.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        array = array[::-1]
    if orientation in (2, 3, 6, 7):
        array = array[:, ::-1]
    return np.ascontiguousarray(array)


def _split(values: NDArray[Any]) -> tuple[Pixels, NDArray[Any] | None]:
    """[H, W], or [H, W, 1 to 4] whose second or fourth channel is alpha, as pixels and alpha."""
    values = values[..., None] if values.ndim == 2 else values
    if values.shape[2] in (2, 4):
        return np.ascontiguousarray(values[..., :-1]), np.ascontiguousarray(values[..., -1])
    return values, None


def joined(picture: Picture) -> Pixels:
    """The pixels [H, W, C], alpha as their last channel where there is one."""
    if picture.alpha is None:
        return picture.pixels
    return np.concatenate([picture.pixels, picture.alpha[..., None]], axis=2)


def _flat(pixels: Pixels) -> NDArray[Any]:
    return pixels[..., 0] if pixels.shape[2] == 1 else pixels


def _from_npy(content: bytes) -> Picture:
    values = np.load(BytesIO(content), allow_pickle=False)
    if values.ndim not in (2, 3) or 0 in values.shape:
        raise ValueError(f"an array of shape {list(values.shape)} is no image; [H, W] or [H, W, C] is")
    flat = values.ndim == 2
    levels, stored = _as_levels(values)
    return Picture(np.ascontiguousarray(levels[..., None] if flat else levels), None, {"flat": flat}, stored)


def _to_npy(picture: Picture) -> bytes:
    values = _restored(picture.pixels, picture.stored)
    if picture.alpha is not None:
        values = np.concatenate([values, picture.alpha[..., None].astype(values.dtype)], axis=2)
    elif picture.metadata.get("flat") and values.shape[2] == 1:
        values = values[..., 0]
    buffer = BytesIO()
    np.save(buffer, values, allow_pickle=False)
    return buffer.getvalue()


def _from_tiff(content: bytes) -> Picture:
    import tifffile

    with tifffile.TiffFile(BytesIO(content)) as file:
        page = file.pages.first
        series = file.series[0]
        plain = page.photometric in (tifffile.PHOTOMETRIC.MINISBLACK, tifffile.PHOTOMETRIC.RGB)
        if not plain or page.bitspersample in (2, 4):
            if page.bitspersample > 8:
                raise ValueError(
                    f"a TIFF of {page.bitspersample} bits as {page.photometric.name} cannot be read"
                )
            return _from_pillow(content)  # palettes, CMYK, YCbCr, bits
        axes, values = series.axes, series.asarray()
        if axes in ("SYX", "CYX"):
            axes, values = "YXS", np.moveaxis(values, 0, -1)
        if axes not in ("YX", "YXS"):
            raise ValueError(
                f"a TIFF of shape {list(series.shape)} has {len(series.pages)} pages; one image with its channels is read"
            )
        tags = {
            tag.code: (tag.dtype, tag.count, tag.value)
            for tag in page.tags.values()
            if tag.code in _TIFF_TAGS
        }
        turned = int(page.tags[_ORIENTATION].value) if _ORIENTATION in page.tags else 1
        metadata: dict[str, Any] = {"tiff": tags, "compression": int(page.compression)}
        if page.resolution != (1, 1):
            metadata["resolution"] = (*page.resolution, int(page.resolutionunit))
        transparent = bool(page.extrasamples) and int(page.extrasamples[-1]) in (1, 2)
        shaped = page.is_shaped
    if shaped:
        tags.pop(270, None)  # tifffile's own note of the shape, which it writes anew
    levels, stored = _as_levels(np.ascontiguousarray(values))
    levels = upright(levels if levels.ndim == 3 else levels[..., None], turned)
    if transparent and levels.shape[2] in (2, 4) and levels.dtype != np.float32:
        pixels, alpha = _split(levels)
        return Picture(pixels, alpha, metadata, stored)
    return Picture(levels, None, metadata, stored)


def _to_tiff(picture: Picture) -> bytes:
    import tifffile

    pixels = _restored(picture.pixels, picture.stored)
    channels, alpha = pixels.shape[2], picture.alpha
    if alpha is not None:
        pixels = np.concatenate([pixels, alpha[..., None].astype(pixels.dtype)], axis=2)
    metadata = picture.metadata
    options: dict[str, Any] = {"photometric": "rgb" if channels == 3 else "minisblack"}
    extra = pixels.shape[2] - (3 if channels == 3 else 1)
    if extra:
        options |= {
            "planarconfig": "contig",
            "extrasamples": ["unassalpha" if alpha is not None else "unspecified"] * extra,
        }
    if resolution := metadata.get("resolution"):
        options |= {"resolution": resolution[:2], "resolutionunit": resolution[2]}
    if metadata.get("compression") in (8, 32946, 5, 50000):  # deflate, LZW, Zstandard: none loses anything
        options["compression"] = metadata["compression"]
    tags: dict[int, Any] = dict(metadata.get("tiff", {}))
    if "icc" in metadata:
        tags.setdefault(34675, (7, len(metadata["icc"]), metadata["icc"]))
    buffer = BytesIO()
    tifffile.imwrite(
        buffer,
        pixels if extra or channels == 3 else pixels[..., 0],
        metadata=None if 270 in tags else {},
        extratags=[(code, *tag, True) for code, tag in tags.items()],
        **options,
    )
    return buffer.getvalue()


def _described(image: Image.Image) -> dict[str, Any]:
    """What Pillow read of profile, EXIF, resolution and text, without the orientation: pixels are handed on upright."""
    found: dict[str, Any] = {}
    if profile := image.info.get("icc_profile"):
        found["icc"] = profile
    if kept := image.getexif():
        exif = Image.Exif()
        exif.load(
            kept.tobytes()
        )  # a copy: Pillow keeps the first, and whoever turns the pixels reads it there
        exif.pop(_ORIENTATION, None)
        found["exif"] = exif.tobytes()
    if (dpi := image.info.get("dpi")) and min(dpi) > 0:
        found["dpi"] = (float(dpi[0]), float(dpi[1]))
    text = {str(key): str(value) for key, value in (getattr(image, "text", None) or {}).items()}
    if _XMP in text:  # says it once more
        text[_XMP] = _XMP_ORIENTATION.sub("", text[_XMP])
    if text:
        found["text"] = text
    return found


def _from_pillow(content: bytes) -> Picture:
    with Image.open(BytesIO(content)) as image:
        image.load()
        return from_pil(image)


def from_pil(image: Image.Image) -> Picture:
    """An image of any mode: grey beyond 8 bits and floats as they are, palettes and CMYK as RGB, upright by its EXIF."""
    if image.mode == "F" or image.mode.startswith("I"):
        values = upright(np.asarray(image), image.getexif().get(_ORIENTATION, 1))
        deep = values.dtype == np.int32 and values.min() >= 0 and values.max() <= 65535
        levels, stored = _as_levels(values.astype(np.uint16) if deep else values)
        return Picture(levels[..., None], None, _described(image), stored)
    turned = ImageOps.exif_transpose(image)
    transparent = turned.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in turned.info
    grey = turned.mode in ("1", "L", "LA", "La")
    shown = turned.convert(("LA" if grey else "RGBA") if transparent else ("L" if grey else "RGB"))
    pixels, alpha = _split(np.array(shown))
    return Picture(pixels, alpha, _described(image))


def _to_pillow(suffix: str, picture: Picture) -> bytes:
    metadata = picture.metadata
    image = Image.fromarray(np.ascontiguousarray(_flat(joined(picture))))
    options: dict[str, Any] = {}
    if "icc" in metadata and suffix != ".bmp":
        options["icc_profile"] = metadata["icc"]
    if "exif" in metadata and suffix != ".bmp":
        options["exif"] = metadata["exif"]
    if "dpi" in metadata and suffix != ".webp":
        options["dpi"] = metadata["dpi"]
    if suffix == ".png" and "text" in metadata:
        from PIL.PngImagePlugin import PngInfo

        options["pnginfo"] = info = PngInfo()
        for key, value in metadata["text"].items():
            info.add_text(key, value)
    if suffix in (".jpg", ".jpeg"):
        options |= {"quality": 95, "subsampling": 0}
    if suffix == ".webp":
        options |= {"lossless": True, "exact": True}  # exact: colours under full transparency too
        image = image.convert("RGBA") if image.mode == "LA" else image
    buffer = BytesIO()
    image.save(buffer, {".jpg": "JPEG", ".jpeg": "JPEG"}.get(suffix, suffix[1:].upper()), **options)
    return buffer.getvalue()


def _from_deep_png(content: bytes) -> Picture:
    import imagecodecs

    with Image.open(BytesIO(content)) as image:
        metadata, turned = _described(image), int(image.getexif().get(_ORIENTATION, 1))
    values = imagecodecs.png_decode(content)
    if values.dtype != np.uint16:
        raise ValueError(f"a PNG of 16 bits was read as {values.dtype.name}")
    pixels, alpha = _split(upright(values, turned))
    return Picture(pixels, alpha, metadata)


def _to_deep_png(picture: Picture) -> bytes:
    import imagecodecs

    content = bytes(imagecodecs.png_encode(np.ascontiguousarray(_flat(joined(picture)))))
    head = len(_PNG) + 25  # signature and IHDR; what describes the pixels comes before them
    return content[:head] + b"".join(_png_chunks(picture.metadata)) + content[head:]


def _png_chunks(metadata: dict[str, Any]) -> Sequence[bytes]:
    chunks = []
    if "icc" in metadata:
        chunks.append((b"iCCP", b"ICC Profile\0\0" + zlib.compress(metadata["icc"])))
    if "exif" in metadata:
        chunks.append((b"eXIf", metadata["exif"].removeprefix(b"Exif\0\0")))
    if "dpi" in metadata:
        chunks.append((b"pHYs", struct.pack(">IIB", *(round(side / 0.0254) for side in metadata["dpi"]), 1)))
    for key, value in metadata.get("text", {}).items():
        chunks.append((b"iTXt", key.encode("latin-1") + b"\0\0\0\0\0" + value.encode()))
    return [
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        for kind, body in chunks
    ]


__all__ = [
    "SUFFIXES", "Form", "Picture", "Pixels",
    "check_format", "decoded", "encoded", "from_pil", "joined", "read_image", "upright", "write_image",
]  # fmt: skip
