"""The course's machinery: from sources to notebooks, self-checks, the learner's folder and progress."""

import sys
from types import ModuleType
from typing import cast

# jsonschema, which nbformat and JupyterLab use, loads this package if it is there, to check internationalised
# addresses, which no schema of Jupyter holds. That takes more than a second; None means that it is not there (Python's
# reference, 5.3.1 "The module cache"; the stubs of `sys` have not heard of it).
sys.modules.setdefault("rfc3987_syntax", cast(ModuleType, None))
