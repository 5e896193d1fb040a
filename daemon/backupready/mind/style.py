"""What does a page look like? One style sheet, the fence that goes with it, and the marks of the verdicts."""

from __future__ import annotations

import base64
import hashlib

from backupready.model import Verdict

STYLE = """
:root{color-scheme:light dark;--paper:#fbfaf7;--raised:#fff;--ink:#1d1c1a;--muted:#6a665f;--line:#e3dfd6;--link:#1c5d99;
--ready:#1c7446;--risk:#8f5f00;--blocked:#b0281e;--unknown:#565a92;--tint:#efece5;--wave:#7b93ab}
@media (prefers-color-scheme:dark){:root{--paper:#131417;--raised:#1a1c20;--ink:#e9e6e1;--muted:#9c978e;--line:#2c2f35;
--link:#8ab8e6;--ready:#63c795;--risk:#dfb04a;--blocked:#ff8d82;--unknown:#a9ade6;--tint:#22252a;--wave:#6d86a0}}
*{box-sizing:border-box}
html{-webkit-text-size-adjust:100%}
body{margin:0;background:var(--paper);color:var(--ink);font:1rem/1.55 system-ui,-apple-system,"Segoe UI",Roboto,
"Noto Sans","Liberation Sans",sans-serif;overflow-wrap:anywhere}
.page{max-width:66rem;margin:0 auto;padding:1.25rem 1rem 3rem}
a{color:var(--link);text-underline-offset:.25em;text-decoration-thickness:.06em}
a:focus-visible,summary:focus-visible{outline:2px solid var(--link);outline-offset:2px;border-radius:2px}
code{font:.875em/1.4 ui-monospace,SFMono-Regular,Menlo,Consolas,"Liberation Mono",monospace}
.top{display:flex;flex-wrap:wrap;justify-content:space-between;gap:.25rem 1.5rem;color:var(--muted);font-size:.875rem}
.top b{color:var(--ink);font-weight:600}
.verdict{display:flex;gap:1.1rem;align-items:flex-start;padding:2.25rem 0 2rem}
.verdict svg{flex:none;width:3.25rem;height:3.25rem;margin-top:.2rem}
.verdict h1{margin:0;font-size:clamp(2rem,1.4rem + 2.6vw,3.25rem);line-height:1.1;letter-spacing:-.025em;
font-weight:650}
.verdict p{margin:.45rem 0 0;max-width:40rem}
.lede{font-size:1.2rem;line-height:1.4}
.ready{color:var(--ready)}.at_risk,.degraded{color:var(--risk)}.blocked{color:var(--blocked)}.unknown{color:var(--unknown)}
.mark{fill:none;stroke:currentColor;stroke-width:1.7;stroke-linecap:round;stroke-linejoin:round}
.muted{color:var(--muted)}.small{font-size:.875rem}
section,.more{border-top:1px solid var(--line);padding:1.35rem 0 1.5rem}
h2{margin:0 0 .75rem;font-size:.9375rem;line-height:1.5;font-weight:600;color:var(--muted)}
h3{margin:0;font-size:1.1875rem;line-height:1.35;font-weight:600;letter-spacing:-.008em}
p{margin:.5rem 0}
.body>:first-child{margin-top:0}.body>:last-child{margin-bottom:0}
article{padding:0 0 1.5rem}
article+article{border-top:1px solid var(--line);padding-top:1.35rem}
article:last-child{padding-bottom:0}
article p{max-width:44rem}
.effect{font-weight:600}
.effect svg{width:1.05em;height:1.05em;vertical-align:-.16em;margin-right:.3em}
dl{display:grid;grid-template-columns:max-content minmax(0,1fr);gap:.2rem 1.1rem;margin:.75rem 0}
dt{color:var(--muted);max-width:10rem}dd{margin:0}
.seen{font-size:.9rem;background:var(--tint);border-radius:.4rem;padding:.6rem .85rem}
.seen dd{font:.875rem/1.6 ui-monospace,SFMono-Regular,Menlo,Consolas,"Liberation Mono",monospace}
.fix{margin:.9rem 0 0;padding:.15rem 0 .15rem .9rem;border-left:3px solid var(--ready)}
.fix p{margin:.2rem 0}
table{width:100%;border-collapse:collapse;font-variant-numeric:tabular-nums}
th,td{text-align:left;vertical-align:top;padding:.4rem 1rem .4rem 0;border-bottom:1px solid var(--line)}
th:last-child,td:last-child{padding-right:0}
thead th{font-size:.8125rem;font-weight:500;color:var(--muted)}
tbody th{font-weight:400}
tbody tr:last-child>*{border-bottom:0}
ul{margin:.5rem 0;padding-left:1.1rem}
figure{margin:0}
figure svg.picture{display:block;width:100%;overflow:hidden}
figcaption{display:flex;flex-wrap:wrap;gap:.1rem 1.1rem;font-size:.875rem;color:var(--muted);margin-top:.6rem}
figcaption svg{width:1.5rem;height:.75rem;vertical-align:-.05em;margin-right:.4rem}
.picture text{font-size:.8125rem;fill:var(--muted)}
.picture text{paint-order:stroke;stroke:var(--paper);stroke-width:3px;stroke-linejoin:round}
.picture .strong{fill:var(--ink);font-weight:600}
.axis{stroke:var(--line);stroke-width:1}
.track{fill:var(--tint)}
.now{stroke:var(--ink);stroke-width:2}
.nowdot{fill:var(--ink)}
.lead{fill:url(#hatch);stroke:var(--muted);stroke-width:1}
.hatch{stroke:var(--muted);stroke-width:1.2}
.window{fill:var(--link)}
.past{fill:var(--link);opacity:.16}
.edge{stroke:var(--link);stroke-width:1.5}
.run{stroke:var(--ink);stroke-width:1.5;stroke-dasharray:2 3}
.wave{fill:var(--wave);fill-opacity:.45;stroke:var(--wave);stroke-width:1.4;vector-effect:non-scaling-stroke}
details summary{cursor:pointer;font-weight:600;color:var(--muted);font-size:.9375rem}
details>.body{padding-top:.9rem}
.foot{border-top:1px solid var(--line);padding-top:1rem;display:flex;flex-wrap:wrap;gap:.3rem 1.25rem;
color:var(--muted);font-size:.875rem}
.runbook{max-width:44rem}.runbook h1{font-size:1.6rem;line-height:1.25;letter-spacing:-.015em;margin:2rem 0 .3rem}
.runbook h2{color:var(--ink);font-size:1.05rem;margin:1.6rem 0 .3rem}
@media (min-width:56rem){.page{padding:2rem 2rem 4rem}section{display:grid;grid-template-columns:11rem minmax(0,1fr);
column-gap:2rem;padding:1.75rem 0 1.9rem}.more{padding-left:13rem}.verdict{padding:3.25rem 0 2.75rem}
.verdict>div{padding-left:0}.verdict svg{width:4.4rem;height:4.4rem;margin-right:.8rem}}
@media (max-width:30rem){.seen{grid-template-columns:minmax(0,1fr);gap:0}.seen dd+dt{margin-top:.4rem}
.verdict{gap:.8rem}.verdict svg{width:2.4rem;height:2.4rem}
.stack thead{position:absolute;width:1px;height:1px;overflow:hidden;
clip-path:inset(50%)}.stack tr,.stack th,.stack td{display:block;border:0;padding:0}.stack tbody th{font-weight:600}
.stack td{display:inline}.stack td+td:not(:empty)::before{content:" · "}
.stack tr{padding:.5rem 0;border-bottom:1px solid var(--line)}.stack tr:last-child{border:0}}
@media print{:root{--paper:#fff}.foot{display:none}}
""".strip()

# Nothing but this style sheet: no script, no picture, no frame, and nothing from anywhere else.
POLICY = (
    "default-src 'none'; style-src 'sha256-"
    + base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()
    + "'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)

_CIRCLE = "M12 2.5a9.5 9.5 0 1 0 0 19a9.5 9.5 0 1 0 0-19z"
_TRIANGLE = "M12 3L22.2 20.8H1.8z"
_OCTAGON = "M8.1 2.6h7.8l5.5 5.5v7.8l-5.5 5.5H8.1l-5.5-5.5V8.1z"
_SQUARE = "M6 3h12a3 3 0 0 1 3 3v12a3 3 0 0 1-3 3H6a3 3 0 0 1-3-3V6a3 3 0 0 1 3-3z"
_WARNING = f"{_TRIANGLE}M12 9.6v5M12 17.6v.1"
# Each has a shape of its own, so that nobody needs the colours: paths in a square of 24.
MARKS = {
    Verdict.READY: f"{_CIRCLE}M7.6 12.4l3 3l5.8-6.4",
    Verdict.AT_RISK: _WARNING,
    Verdict.DEGRADED: _WARNING,
    Verdict.BLOCKED: f"{_OCTAGON}M8.7 8.7l6.6 6.6M15.3 8.7l-6.6 6.6",
    Verdict.UNKNOWN: f"{_SQUARE}M9.4 9.6a2.6 2.6 0 1 1 4 2.2c-1 .65-1.4 1.1-1.4 2.2M12 17.1v.1",
}
