"""How is something shown in Grafana? As numbers, states over time, courses and lists, all in the same manner.

Only whoever renders has the generator (the test extra brings it, for Python 3.11 and later).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from grafana_foundation_sdk.builders import common as looks
from grafana_foundation_sdk.builders import dashboard, prometheus, stat, statetimeline, table, timeseries
from grafana_foundation_sdk.models import common, units
from grafana_foundation_sdk.models import dashboard as model
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

WIDTH = 24  # columns of Grafana's grid
SOURCE = model.DataSourceRef(type_val="prometheus", uid="${datasource}")

# Muted, so that red is seen.
GREEN, YELLOW, ORANGE, RED = "semi-dark-green", "semi-dark-yellow", "semi-dark-orange", "semi-dark-red"
PURPLE, BLUE, GREY, PALE = "semi-dark-purple", "semi-dark-blue", "#8e8e8e", "rgba(128, 128, 128, 0.25)"

Query = tuple[str, str]  # the expression, and the legend
Column = tuple[str, str, Sequence[model.DynamicConfigValue]]  # a field, its heading, how it is shown

_CHOSEN = 'job=~"$job", instance=~"$instance"'


def chosen(expr: str) -> str:
    """An expression with what is chosen on top of the dashboard at each of its series."""

    def narrowed(match: re.Match[str]) -> str:
        quoted, name, own = match.groups()
        return quoted or f"{name}{{{_CHOSEN}{', ' + own if own else ''}}}"

    # What stands in quotes names no series, nor does a part of a recorded one's name.
    series = r"(?<![\w:])((?:backupready|process)_\w+|up|ALERTS)\b(?!:)(?:\{([^}]*)\})?"
    return re.sub(rf'("[^"]*")|{series}', narrowed, expr)


def ranked(series: str, label: str, values: Sequence[str], kept: str = "job, instance") -> str:
    """The place in `values` of the one that holds, the highest of several."""
    each = (f'({series}{{{label}="{value}"}} == 1) * {place}' for place, value in enumerate(values))
    return f"max by ({kept}) (" + " or ".join(each) + ")"


def named(texts: Mapping[str, str]) -> model.ValueMap:
    """Numbers from 0 on, each by its text and colour."""
    results = {
        str(place): model.ValueMappingResult(text=text, color=color, index=place)
        for place, (text, color) in enumerate(texts.items())
    }
    return model.ValueMap(options=results)


def colored(texts: Mapping[str, str]) -> model.ValueMap:
    """Texts by their colour."""
    results = {
        text: model.ValueMappingResult(color=color, index=place) for place, (text, color) in enumerate(texts.items())
    }
    return model.ValueMap(options=results)


def asked(expr: str, legend: str, number: int, now: bool) -> prometheus.Dataquery:
    """The query of that number in its panel, of this moment or over time."""
    query = prometheus.Dataquery().expr(chosen(expr)).ref_id(chr(ord("A") + number)).datasource(SOURCE)
    query = query.legend_format(legend)
    return query.instant() if now else query.range()


def _steps(steps: Mapping[float, str], base: str) -> dashboard.ThresholdsConfig:
    all_steps = [model.Threshold(None, base), *(model.Threshold(value, color) for value, color in steps.items())]
    return dashboard.ThresholdsConfig().mode(model.ThresholdsMode.ABSOLUTE).steps(all_steps)


def number(
    title: str,
    description: str,
    queries: Sequence[Query],
    unit: str,
    width: int,
    names: model.ValueMap | None = None,
    colors: Mapping[str, str] | None = None,
    steps: Mapping[float, str] | None = None,
    absent: str = "unknown",
) -> stat.Panel:
    """What is so at this moment, large. `colors` are of the series by their legend."""
    panel = stat.Panel().title(title).description(description).datasource(SOURCE).unit(unit).span(width).height(4)
    panel = panel.graph_mode(common.BigValueGraphMode.NONE).color_mode(common.BigValueColorMode.VALUE)
    panel = panel.reduce_options(looks.ReduceDataOptions().calcs(["lastNotNull"]).fields("").values(False))
    panel = panel.text_mode(common.BigValueTextMode.VALUE_AND_NAME if colors else common.BigValueTextMode.VALUE)
    panel = panel.no_value(absent).thresholds(_steps(steps or {}, GREEN if steps else "text"))
    panel = panel.targets([asked(expr, legend, n, now=True) for n, (expr, legend) in enumerate(queries)])
    for name, color in (colors or {}).items():
        fixed = {"mode": "fixed", "fixedColor": color}
        panel = panel.override_by_name(name, [model.DynamicConfigValue("color", fixed)])
    return panel if names is None else panel.mappings([names])


def timeline(
    title: str, description: str, expr: str, legend: str, names: model.ValueMap, height: int, width: int = WIDTH
) -> statetimeline.Panel:
    """States over time, one line a series."""
    panel = statetimeline.Panel().title(title).description(description).datasource(SOURCE).span(width).height(height)
    panel = panel.mappings([names]).unit(units.NoUnit).no_value("nothing")
    panel = panel.show_value(common.VisibilityMode.NEVER).merge_values(True).line_width(0).fill_opacity(85)
    panel = panel.row_height(0.8).legend(_legend())
    panel = panel.color_scheme(dashboard.FieldColor().mode(model.FieldColorModeId.THRESHOLDS))
    panel = panel.thresholds(_steps({}, "text"))
    return panel.with_target(asked(expr, legend, 0, now=False))


def _legend() -> looks.VizLegendOptions:
    mode = common.LegendDisplayMode.LIST
    return looks.VizLegendOptions().display_mode(mode).placement(common.LegendPlacement.BOTTOM).show_legend(True)


def course(
    title: str,
    queries: Sequence[Query],
    unit: str,
    width: int,
    description: str,
    ratio: bool = False,
    stacked: Mapping[str, str] | None = None,
) -> timeseries.Panel:
    """Numbers over time. `ratio` says that they are at most 1; `stacked` colours the series by their legend and piles
    them up."""
    panel = timeseries.Panel().title(title).description(description).datasource(SOURCE).unit(unit)
    panel = panel.span(width).height(8).line_width(1).fill_opacity(60 if stacked else 8).min(0)
    panel = panel.show_points(common.VisibilityMode.NEVER).legend(_legend())
    panel = panel.tooltip(
        looks.VizTooltipOptions().mode(common.TooltipDisplayMode.MULTI).sort(common.SortOrder.DESCENDING)
    )
    panel = panel.targets([asked(expr, legend, n, now=False) for n, (expr, legend) in enumerate(queries)])
    for name, color in (stacked or {}).items():
        fixed = {"mode": "fixed", "fixedColor": color}
        panel = panel.override_by_name(name, [model.DynamicConfigValue("color", fixed)])
    if stacked:
        panel = panel.stacking(looks.StackingConfig().mode(common.StackingMode.NORMAL))
        panel = panel.line_interpolation(common.LineInterpolation.STEP_AFTER)
    return panel.max(1) if ratio else panel


def listing(
    title: str,
    description: str,
    queries: Sequence[str],
    columns: Sequence[Column],
    width: int,
    height: int,
    sort: tuple[str, bool] | None = None,
    absent: str = "none",
) -> table.Panel:
    """What is so at this moment: the columns in their order, everything else hidden. `sort` is a heading, and whether
    the greatest comes first."""
    panel = table.Panel().title(title).description(description).datasource(SOURCE).span(width).height(height)
    panel = panel.unit(units.NoUnit).no_value(absent).cell_height(common.TableCellHeight.SM)
    for number, expr in enumerate(queries):
        query = asked(expr, "__auto", number, now=True)
        panel = panel.with_target(query.format(PromQueryFormat.TABLE))
    if len(queries) > 1:
        panel = panel.with_transformation(model.DataTransformerConfig(id_val="merge", options={}))
    fields = [field for field, _, _ in columns]
    panel = panel.with_transformation(
        model.DataTransformerConfig(id_val="filterFieldsByName", options={"include": {"names": fields}})
    )
    order = {
        "indexByName": {field: place for place, field in enumerate(fields)},
        "renameByName": {field: heading for field, heading, _ in columns},
        "excludeByName": {},
    }
    panel = panel.with_transformation(model.DataTransformerConfig(id_val="organize", options=order))
    for _, heading, properties in columns:
        if properties:
            panel = panel.override_by_name(heading, list(properties))
    if sort is not None:
        panel = panel.sort_by([looks.TableSortByFieldState().display_name(sort[0]).desc(sort[1])])
    return panel


def shown(cell: str = "", align: str = "", **properties: Any) -> list[model.DynamicConfigValue]:
    """How a field is shown: the kind of its cells, where the text is, and properties by Grafana's names."""
    own = [model.DynamicConfigValue("custom.cellOptions", {"type": cell})] if cell else []
    own += [model.DynamicConfigValue("custom.align", align)] if align else []
    return [*(model.DynamicConfigValue(name, value) for name, value in properties.items()), *own]
