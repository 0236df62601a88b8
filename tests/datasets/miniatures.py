"""Archives made in memory, and miniatures of the data sets in the layout of the real ones."""

import io
import tarfile
import zipfile
from collections.abc import Mapping

import numpy as np
from PIL import Image
from scipy.io import savemat


class Listener:
    """A Progress that remembers."""

    def __init__(self) -> None:
        self.said: list[str] = []
        self.stages: list[list[object]] = []

    def start(self, stage: str, total: int | None) -> None:
        self.stages.append([stage, total, 0])

    def advance(self, steps: int = 1, note: str = "") -> None:
        done = self.stages[-1][2]
        assert isinstance(done, int)
        self.stages[-1][2] = done + steps

    def say(self, text: str) -> None:
        self.said.append(text)


def tar_of(files: Mapping[str, bytes | tarfile.TarInfo], mode: str = "w:gz") -> bytes:
    """A tar of files by name, in order; a value may be a member without content, for what is no file."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode) as tar:  # type: ignore[call-overload]
        for name, content in files.items():
            if isinstance(content, tarfile.TarInfo):
                content.name = name
                tar.addfile(content)
            else:
                member = tarfile.TarInfo(name)
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


def link(goal: str, kind: bytes = tarfile.SYMTYPE) -> tarfile.TarInfo:
    member = tarfile.TarInfo()
    member.type, member.linkname = kind, goal
    return member


def zip_of(files: Mapping[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def image(seed: int = 0, size: tuple[int, int] = (40, 30)) -> bytes:
    rng = np.random.default_rng(seed)
    buffer = io.BytesIO()
    Image.fromarray(rng.integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)).save(buffer, "JPEG")
    return buffer.getvalue()


def selfie() -> dict[str, bytes]:
    """``Selfie-dataset.tar.gz``: three images, of which one is not in the text; a line without its image."""
    attributes = " ".join(["1", "-1", "0"] * 12)
    text = f"a1 3.25 {attributes}\nb2 4.5 {attributes}\nlost 1.0 {attributes}\n"
    return {
        "Selfie-dataset.tar.gz": tar_of(
            {
                "Selfie-dataset/README.txt": b"limited only to the research purposes\n",
                "Selfie-dataset/selfie_dataset.txt": text.encode(),
                "Selfie-dataset/images/a1.jpg": image(1),
                "Selfie-dataset/images/b2.jpg": image(2),
                "Selfie-dataset/images/c3.jpg": image(3),
                "Selfie-dataset/images/._a1.jpg": b"macOS",
            }
        )
    }


def _mat(**values: object) -> bytes:
    buffer = io.BytesIO()
    savemat(buffer, values, do_compression=True)
    return buffer.getvalue()


def caltech101() -> dict[str, bytes]:
    """``caltech-101.zip``: two of the renamed categories, a plain one, the clutter; a broken .mat, a missing one."""

    def box(y1: int, y2: int, x1: int, x2: int) -> bytes:
        return _mat(box_coord=np.array([[y1, y2, x1, x2]], dtype=np.uint16), obj_contour=np.zeros((2, 5)))

    images = tar_of(
        {
            "101_ObjectCategories/airplanes/image_0001.jpg": image(1),
            "101_ObjectCategories/Faces/image_0001.jpg": image(2),
            "101_ObjectCategories/Faces_easy/image_0001.jpg": image(3),
            "101_ObjectCategories/ant/image_0001.jpg": image(4),
            "101_ObjectCategories/ant/image_0002.jpg": image(5),
            "101_ObjectCategories/ant/image_0003.jpg": image(6),
            "101_ObjectCategories/BACKGROUND_Google/image_0001.jpg": image(7),
            "101_ObjectCategories/BACKGROUND_Google/tmp": b"",
        }
    )
    annotations = tar_of(
        {
            "Annotations/Airplanes_Side_2/annotation_0001.mat": box(3, 20, 5, 35),
            "Annotations/Faces_2/annotation_0001.mat": box(1, 30, 1, 40),
            "Annotations/Faces_3/annotation_0001.mat": box(2, 29, 3, 38),
            "Annotations/ant/annotation_0001.mat": box(4, 10, 6, 12),
            "Annotations/ant/annotation_0002.mat": b"no mat file at all",
        },
        "w",
    )
    return {
        "caltech-101.zip": zip_of(
            {
                "caltech-101/": b"",
                "caltech-101/101_ObjectCategories.tar.gz": images,
                "caltech-101/Annotations.tar": annotations,
                "caltech-101/show_annotation.m": b"% shows",
                "__MACOSX/caltech-101/._Annotations.tar": b"macOS",
            }
        )
    }


def _xml(name: str, species: str, corners: tuple[int, int, int, int]) -> bytes:
    x1, y1, x2, y2 = corners
    return (
        f"<annotation><folder>OXIIIT</folder><filename>{name}.jpg</filename><object><name>{species}</name><bndbox>"
        f"<xmin>{x1}</xmin><ymin>{y1}</ymin><xmax>{x2}</xmax><ymax>{y2}</ymax></bndbox></object></annotation>"
    ).encode()


def pets() -> dict[str, bytes]:
    """``images.tar.gz`` and ``annotations.tar.gz``: trainval with and without a box, test, and one in no list."""
    names = ("Abyssinian_1", "Abyssinian_2", "great_pyrenees_10", "great_pyrenees_11", "Bengal_9")
    images: dict[str, bytes] = {f"images/{name}.jpg": image(n) for n, name in enumerate(names)}
    return {
        "images.tar.gz": tar_of(images | {"images/Abyssinian_1.mat": b"stray"}),
        "annotations.tar.gz": tar_of(
            {
                "annotations/README": b"about",
                "annotations/list.txt": b"#Image CLASS-ID SPECIES BREED ID\nAbyssinian_1 1 1 1\n",
                "annotations/trainval.txt": b"Abyssinian_1 1 1 1\nAbyssinian_2 1 1 1\n",
                "annotations/test.txt": b"great_pyrenees_10 16 2 11\ngreat_pyrenees_11 16 2 11\n",
                "annotations/xmls/Abyssinian_1.xml": _xml("Abyssinian_1", "cat", (3, 5, 30, 20)),
                "annotations/xmls/Bengal_9.xml": _xml("Bengal_9", "cat", (1, 1, 40, 30)),
                "annotations/trimaps/._Abyssinian_1.png": b"macOS",
            }
        ),
    }


def cub200() -> dict[str, bytes]:
    """``CUB_200_2011.tgz``: three birds of two species, and the legend that lies beside the folder."""
    names = (
        "001.Black_footed_Albatross/A_1.jpg",
        "001.Black_footed_Albatross/A_2.jpg",
        "200.Yellowthroat/Y_1.jpg",
    )
    top = "CUB_200_2011"
    return {
        "CUB_200_2011.tgz": tar_of(
            {
                "attributes.txt": b"1 has_bill_shape::curved\n",
                f"{top}/images.txt": "".join(f"{n} {name}\n" for n, name in enumerate(names, 1)).encode(),
                f"{top}/bounding_boxes.txt": b"1 6.0 2.0 32.5 24.0\n2 0.0 0.0 10.0 10.0\n3 1.0 2.0 0.0 4.0\n",
                f"{top}/train_test_split.txt": b"1 1\n2 0\n3 1\n",
                f"{top}/image_class_labels.txt": b"1 1\n2 1\n3 200\n",
                f"{top}/classes.txt": b"1 001.Black_footed_Albatross\n200 200.Yellowthroat\n",
                **{f"{top}/images/{name}": image(n) for n, name in enumerate(names)},
            }
        )
    }
