"""A chemiscope structure viewer inside an HTML page, without any network access.

The viewer's program (3 MB, BSD licence, copyright the chemiscope developers) and the structures are put into the page
compressed, and unpacked by the browser itself.
"""

from __future__ import annotations

import base64
import gzip
import html
import json
from collections.abc import Sequence
from importlib import metadata, util
from pathlib import Path

from ipi_driver.analysis.result import Analysis

_PAGE = """
<div id="viewer-meta"></div>
<div id="viewer-structure" class="viewer" style="height: 420px; position: relative"></div>
<div id="viewer-info"></div>
<p id="viewer-error" class="note"></p>
<script type="application/octet-stream" id="viewer-program">{program}</script>
<script type="application/octet-stream" id="viewer-data">{data}</script>
<script>
(async () => {{
  const unpack = async (id) => {{
    const packed = Uint8Array.from(atob(document.getElementById(id).textContent.trim()), (c) => c.charCodeAt(0));
    const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
    return await new Response(stream).text();
  }};
  try {{
    const program = document.createElement("script");
    program.textContent = await unpack("viewer-program");
    document.head.appendChild(program);
    const warnings = new Chemiscope.Warnings();
    const config = {{ meta: "viewer-meta", structure: "viewer-structure", info: "viewer-info" }};
    await Chemiscope.StructureVisualizer.load(config, JSON.parse(await unpack("viewer-data")), warnings);
  }} catch (error) {{
    document.getElementById("viewer-error").textContent = "The structure viewer could not start: " + error;
  }}
}})();
</script>
<p class="small">Structure viewer: chemiscope {version}, © chemiscope developers, BSD 3-Clause licence.
First snapshots, molecules made whole, numbered as the viewer does: {labels}.</p>
"""


def viewer_html(analyses: Sequence[Analysis]) -> str:
    """HTML of the viewer with the first snapshot of every run, or one line with the reason why there is none."""
    program = _program()
    shown = [analysis for analysis in analyses if analysis.structure is not None]
    if program is None or not shown:
        return (
            "<p class='note'>No structure viewer: chemiscope is not installed (pip install "
            "'ipi-driver[analysis]').</p>"
        )
    import chemiscope

    dataset = chemiscope.create_input(
        structures=[analysis.structure.to_atoms() for analysis in shown if analysis.structure is not None],
        properties={"run": {"target": "structure", "values": [float(k) for k in range(1, len(shown) + 1)]}},
        metadata={"name": "first snapshots"},
        settings={"structure": [{"unitCell": True}]},
    )
    return _PAGE.format(
        program=_packed(program.read_bytes()),
        data=_packed(json.dumps(dataset).encode()),
        version=html.escape(metadata.version("chemiscope")),
        labels=html.escape("; ".join(f"{k}: {analysis.label}" for k, analysis in enumerate(shown))),
    )


def _program() -> Path | None:
    """The viewer's own file in an installed chemiscope."""
    found = util.find_spec("chemiscope")
    if found is None or found.origin is None:
        return None
    path = Path(found.origin).parent / "sphinx" / "static" / "chemiscope.min.js"
    return path if path.is_file() else None


def _packed(content: bytes) -> str:
    return base64.b64encode(gzip.compress(content, 9, mtime=0)).decode()
