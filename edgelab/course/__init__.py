"""The course's machinery: from sources to notebooks, the learner's folder, self-checks, grading."""

import sys

# jsonschema, which nbformat and JupyterLab use, loads this package if it is there, to check internationalised
# addresses, which no schema of Jupyter holds. That takes more than a second; None means that it is not there.
sys.modules.setdefault("rfc3987_syntax", None)
