"""`pdoc -d google softlabels pipeline -o site`, with the lazy names of softlabels there: pdoc does not ask for them.

python .github/reference.py [FOLDER=site]
"""

import sys
from pathlib import Path

import pdoc

import softlabels

for name in softlabels.__all__:
    setattr(softlabels, name, getattr(softlabels, name))
pdoc.render.configure(docformat="google")
pdoc.pdoc("softlabels", "pipeline", output_directory=Path(*sys.argv[1:2] or ["site"]))
