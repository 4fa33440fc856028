"""The order of the gallery: the quickstart, then by file name."""


class QuickstartFirst:
    """Sort key of sphinx-gallery.

    Args:
        src_dir: Folder of the scripts; the order does not depend on it.
    """

    def __init__(self, src_dir: str) -> None:
        self.src_dir = src_dir

    def __call__(self, filename: str) -> tuple[bool, str]:
        """Return the key of a script."""
        return filename != "quickstart.py", filename
