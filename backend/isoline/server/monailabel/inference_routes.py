"""Routes that run models."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager

from flask import Response, g, request

from isoline.errors import Malformed, NotSupported
from isoline.images.catalog import Found
from isoline.server.access import ADMIN, RUN, SAVE, User
from isoline.server.declarations import Declaration, Routes
from isoline.server.monailabel import datastore as store
from isoline.server.monailabel import forms, volumes, wsi
from isoline.server.monailabel.batch import BatchInference, BatchTask
from isoline.server.monailabel.datastore import Datastore
from isoline.server.monailabel.files import safe_name
from isoline.server.monailabel.forms import TEXT, Form, FormReader
from isoline.server.monailabel.http import as_json, attachment, detail, flag
from isoline.server.monailabel.inference import (
    Inference,
    Reply,
    as_both,
    as_mask,
    of_volume,
    whole_or_part,
)
from isoline.server.monailabel.inference import as_json as inference_as_json
from isoline.server.monailabel.masks import MaskFormat
from isoline.server.monailabel.runs import hung_up


def serve_inference(
    routes: Routes, inference: Inference, read: FormReader, trusts: Callable[[str], bool]
) -> None:
    """Add /infer/; `trusts` returns whether an address needs no token for /infer/wsi."""

    @routes.post("/infer/<model>", read.body)
    def infer(model: str) -> Response:
        form, output = read(), request.args.get("output") or "all"
        if output not in ("image", "json", "all", "dicom_seg"):
            raise Malformed(f"output={output} is unknown", "choose image, json, all or dicom_seg")
        params, owner = form.json("params"), g.user.name
        with inference.runner.seat(), _source(inference, form) as found:
            if found.info.volume is not None:
                if output == "dicom_seg":
                    volumes.check_dicom_seg(found, inference.spec(model))
                scribbled = form.file("label")
                labelled = inference.run_volume(model, params, scribbled, found, owner, _watch())
                return _respond(of_volume(labelled, output, params))
            if output == "dicom_seg":
                raise NotSupported(
                    "DICOM SEG is for volumes, and this is a plane", "use output=image"
                )
            asked, kind, masked = whole_or_part(params), MaskFormat.of(params), output != "json"
            answer = inference.run(model, asked, found, owner, _watch(), masked=masked)
        if output == "json":
            return _respond(inference_as_json(answer))
        return _respond(as_mask(answer, kind) if output == "image" else as_both(answer, kind))

    @routes.route("/infer/wsi/<model>", "POST", Declaration(RUN, TEXT, trusts=trusts))
    def infer_wsi(model: str) -> Response:
        return wsi_answer(model, forms.read_json(request), Form({}, ()))

    @routes.post("/infer/wsi_v2/<model>", read.body)
    def infer_wsi_v2(model: str) -> Response:
        form = read()
        return wsi_answer(model, form.json("wsi"), form)

    def wsi_answer(model: str, given: Mapping[str, object], form: Form) -> Response:
        output = request.args.get("output") or "dsa"
        if output not in wsi.DOCUMENTS:
            raise Malformed(f"output={output} is unknown", f"choose {', '.join(wsi.DOCUMENTS)}")
        write, media_type = wsi.DOCUMENTS[output]
        with inference.runner.seat(), _source(inference, form) as found:
            answer = inference.run(model, wsi.parse(given), found, g.user.name, _watch())
        return _respond(Reply(write(answer), media_type))


def _source(inference: Inference, form: Form) -> AbstractContextManager[Found]:
    session = request.args.get("session_id", "")
    return inference.source(request.args.get("image", ""), session, form.file("file"))


def _watch() -> Callable[[], bool]:
    environ = request.environ
    return lambda: hung_up(environ)


def _respond(answer: Reply) -> Response:
    response = Response(answer.body, content_type=answer.media_type)
    if answer.filename:
        response.headers["Content-Disposition"] = attachment(answer.filename)
    return response


def serve_batches(routes: Routes, inference: Inference, datastore: Datastore) -> None:
    """Add /batch/infer/, which runs on the images of the datastore."""
    batches = BatchInference()

    def may_see(task: BatchTask) -> bool:
        user: User = g.user
        return user.may(ADMIN) or user.name == task.owner

    @routes.post("/batch/infer/<model>", TEXT, scope=SAVE)
    def start_batch(model: str) -> Response:
        inference.spec(model)
        params = forms.read_json(request)
        which = params.get("images") or request.args.get("images", "all")
        tag = safe_name(str(params.get("label_tag") or store.ORIGINAL))
        images = _chosen(which, datastore)
        most = params.get("max_batch_size")
        if isinstance(most, int) and most > 0:
            images = images[:most]
        owner: str = g.user.name

        def infer(image: str, is_stopped: Callable[[], bool]) -> dict[str, object]:
            name = f"{store.SCHEME}:{image}"
            label = inference.label(model, params, name, owner, is_stopped)
            noted = {"model": model, "params": label.params}
            file = f"{image}{label.suffix}"
            datastore.save_label(image, tag, file, io.BytesIO(label.body), noted)
            return {"label": image, "tag": tag, "params": label.params}

        wait = flag("run_sync")
        description = {"model": model, "images": which, **params}
        with inference.runner.seat() if wait else contextlib.nullcontext():
            task = batches.start(owner, description, images, infer, wait=wait)
        if task is None:
            return detail("a batch inference is already running", 429)
        return as_json(task.result if wait else task.json())

    @routes.get("/batch/infer")
    @routes.get("/batch/infer/<model>")
    def batch_status(**_: str) -> Response:
        tasks = [task for task in batches.tasks if may_see(task)]
        if flag("check_if_running"):
            tasks = [task for task in tasks if task is batches.running]
        if not tasks:
            return detail("No batch inference found", 404)
        return as_json([task.json() for task in tasks] if flag("all") else tasks[-1].json())

    @routes.delete("/batch/infer")
    @routes.delete("/batch/infer/<model>")
    def stop_batch(**_: str) -> Response:
        task = batches.running
        if task is None or not may_see(task):
            return as_json(None)
        task.stop()
        return as_json(task.json())


def _chosen(which: object, datastore: Datastore) -> list[str]:
    """Return the ids in a list, or those that a keyword selects. Raises Malformed."""
    if isinstance(which, list):
        return [image for image in datastore.ids() if image in which]
    if which not in ("all", "labeled", "unlabeled"):
        raise Malformed(f"images={which!r} is unknown", "choose all, labeled or unlabeled")
    return datastore.ids(str(which))
