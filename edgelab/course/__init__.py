"""The course's machinery: from sources to notebooks, self-checks, the learner's folder and progress."""

import sys

# jsonschema, which nbformat and JupyterLab use, loads this package if it is there, to check internationalised
# addresses, which no schema of Jupyter holds. That takes more than a second; None means that it is not there.
sys.modules.setdefault("rfc3987_syntax", None)
