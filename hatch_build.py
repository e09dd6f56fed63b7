"""What a wheel carries besides the package: the learners' notebooks, the sign templates and the pinned versions."""

from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class CarryTheCourse(BuildHookInterface):
    """Put the files into the package; an editable install finds them in the checkout, and needs no copies."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Add the files to `build_data`, by the place that each of them takes in the wheel."""
        if version == "editable":
            return
        root = Path(self.root)
        notebooks = sorted([*root.glob("labs/[0-9]*.ipynb"), *root.glob("labs/??/[0-9]*.ipynb")])
        templates = sorted(root.glob("datasets/signs/*.png"))
        if not notebooks or not templates:
            raise FileNotFoundError("labs/*.ipynb or datasets/signs/*.png are missing: is this a whole checkout?")
        for path in (*notebooks, *templates, root / "constraints.txt"):
            place = path.relative_to(root).as_posix()
            build_data["force_include"][str(path)] = f"edgelab/{place.replace('labs/', 'notebooks/', 1)}"
