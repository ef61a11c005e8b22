"""The front door with faults in some cells.

python -m tests.neighbours.front '{"<seed>": "<fault>"}' <arguments>
"""

from __future__ import annotations

import json
import sys

from src.config import cells
from src.train import cli
from tests.neighbours.faults import plant_in_children

if __name__ == "__main__":
    plant_in_children(cells, json.loads(sys.argv.pop(1)))
    sys.exit(cli())
