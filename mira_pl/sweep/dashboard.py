"""The W&B workspace of a project, as code: the curves, pictures and settings that every fit logs."""

import json
from typing import Any

import wandb_workspaces.reports.v2 as wr
import wandb_workspaces.workspaces as ws

AXIS = "iteration"
CURVES = ("reward", "drift", "clip")
MEDIA = ("contact_sheet", "filmstrips")
METHOD = "method"
SETTINGS = ("model.objective.init_args.beta", "model.lr")


def workspace(entity: str, project: str) -> ws.Workspace:
    """Curves grouped by method, reward against drift, parallel coordinates, pictures."""
    curves: list[Any] = [
        wr.LinePlot(title=name, x=AXIS, y=[name], groupby=wr.Config(METHOD), groupby_rangefunc="minmax")
        for name in CURVES
    ]
    scatter = wr.ScatterPlot(
        title="reward against drift", x=wr.SummaryMetric("drift"), y=wr.SummaryMetric("reward"), regression=False
    )
    columns = [
        wr.ParallelCoordinatesPlotColumn(metric=wr.Config(SETTINGS[0]), display_name="beta"),
        wr.ParallelCoordinatesPlotColumn(metric=wr.Config(SETTINGS[1]), display_name="lr", log=True),
        *(wr.ParallelCoordinatesPlotColumn(metric=wr.SummaryMetric(name)) for name in CURVES),
    ]
    trials: list[Any] = [scatter, wr.ParallelCoordinatesPlot(columns=columns, title="beta, lr")]
    media: list[Any] = [wr.MediaBrowser(title=name, media_keys=[name]) for name in MEDIA]
    return ws.Workspace(
        entity=entity,
        project=project,
        name="mira_pl",
        sections=[
            ws.Section(name="Over the iterations", panels=curves, is_open=True),
            ws.Section(name="Trials", panels=trials, is_open=True),
            ws.Section(name="Pictures", panels=media, is_open=True),
        ],
        settings=ws.WorkspaceSettings(x_axis=AXIS),
    )


def as_json(made: ws.Workspace) -> str:
    """What would be sent to the server."""
    model = made._to_model()  # the library has no public way that needs no server
    return json.dumps(json.loads(model.model_dump_json(by_alias=True, exclude_none=True)), indent=1)
