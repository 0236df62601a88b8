"""Where the images are that annotations name."""

from pathlib import Path

from solobox.data.formats.parsing import Listings, locate


class ImageFinder:
    """Finds the files of images by the names in annotations. Every folder is listed once.

    folders: where names may be relative to, the most likely first: those of the format, near the annotations.
    images: the folder that the user names in their place, or None.
    """

    def __init__(self, *folders: Path, images: Path | None = None) -> None:
        self._folders = (images,) if images is not None else folders
        self._own = folders[0]
        self._path_of = {folder: locate(folder) for folder in (*self._folders, self._own)}
        self._listings = Listings()

    def find(self, name: str, original: str = "") -> Path:
        """The path of an image; where no such file is, the one where it should be.

        name: as the file has it, with ``/`` between folders. original: in a copy that Solobox wrote, the name in its
        original, which is relative to `images`, whereas `name` is relative to the copy.
        """
        if original and self._folders[0] is not self._own:
            for path in (self._path_of[self._folders[0]](original), self._path_of[self._own](name)):
                if self._listings.has(path):
                    return path
        for folder in self._folders:
            path = self._path_of[folder](name)
            if self._listings.has(path):
                return path
        return self._path_of[self._folders[0]](name)
