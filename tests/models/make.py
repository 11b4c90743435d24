"""Makes models with the libraries of others, rows, and what those libraries themselves predict for them: `fixtures/`, one folder for each case.

    python make.py OUT sklearn lightgbm xgboost      # environment models
    python make.py OUT catboost                      # environment models-catboost
    python make.py OUT torch                         # environment models-torch
    python make.py OUT keras                         # environment models-keras

`cargo xtask fixtures` makes the environments (`tests/clients/requirements`) and calls this. Data and seeds are fixed: on the same processor with the same
versions the files come out the same. To add a library: a file `from_NAME.py` with `make(out)`.
"""

import importlib
import sys
import warnings
from pathlib import Path

if __name__ == "__main__":
    warnings.filterwarnings("ignore")
    if len(sys.argv) < 3:
        raise SystemExit(__doc__)
    for library in sys.argv[2:]:
        importlib.import_module(f"from_{library}").make(Path(sys.argv[1]))
