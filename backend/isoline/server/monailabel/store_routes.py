"""Routes for stored data: sessions, images and labels."""

from __future__ import annotations

from collections.abc import Callable

from flask import Response, request

from isoline.errors import Malformed, NotSupported
from isoline.server.access import SAVE
from isoline.server.declarations import Routes
from isoline.server.monailabel import datastore as store
from isoline.server.monailabel.datastore import Datastore
from isoline.server.monailabel.forms import FormReader
from isoline.server.monailabel.http import as_json, flag, not_available, send, whole
from isoline.server.monailabel.names import Names
from isoline.server.monailabel.sessions import Sessions, session_json


def serve_sessions(routes: Routes, sessions: Sessions, read: FormReader) -> None:
    """Add /session/."""

    @routes.put("/session/", read.body)
    def create_session() -> Response:
        if flag("uncompress"):
            raise NotSupported("archives cannot be unpacked", "send the image itself")
        session = sessions.create(read().files, whole(request.args.get("expiry", "0")))
        return as_json({"session_id": session.name, "session_info": session_json(session)})

    @routes.get("/session/<session>")
    def session_state(session: str) -> Response:
        if flag("image"):
            return send(sessions.file(session))
        return as_json(session_json(sessions.get(session, touch=flag("update_ts"))))

    @routes.delete("/session/<session>")
    def remove_session(session: str) -> Response:
        return as_json(session_json(sessions.remove(session)))


def serve_images(
    routes: Routes,
    datastore: Datastore,
    names: Names,
    read: FormReader,
    note: Callable[[str, str], None],
) -> None:
    """Add the routes for images below /datastore/; `note` records actions on images."""

    @routes.get("/datastore/")
    def overview() -> Response:
        output = request.args.get("output", "stats")
        views = {"all": datastore.everything, "train": datastore.pairs}
        return as_json(views.get(output, datastore.status)())

    @routes.put("/datastore/", read.body, scope=SAVE)
    @routes.put("/datastore/image", read.body, scope=SAVE)
    def add_image() -> Response:
        form = read()
        file = form.file("file")
        if file is None:
            raise Malformed("the form has no file", "send one in the field 'file'")
        image, info = request.args.get("image"), form.json("params")
        name = datastore.add_image(image, file.filename or "", file.stream, info)
        note("save image", name)
        return as_json({"image": name})

    @routes.delete("/datastore/", scope=SAVE)
    @routes.delete("/datastore/image", scope=SAVE)
    def remove_image() -> Response:
        image = request.args.get("id", "")
        datastore.remove_image(image)
        note("delete image", image)
        return as_json({})

    @routes.get("/datastore/image")
    def image() -> Response:
        return send(names.path(request.args.get("image", "")), request.args.get("check_sum"))

    @routes.get("/datastore/image/info")
    def image_info() -> Response:
        image = request.args.get("image", "")
        if datastore.has(image):
            return as_json(datastore.image_info(image))
        path = names.path(image)
        return as_json({"name": path.name, "path": path.name})

    @routes.put("/datastore/image/info", read.body, scope=SAVE)
    def note_image() -> Response:
        datastore.update_image_info(request.args.get("image", ""), read().json("info"))
        return as_json(None)

    @routes.get("/datastore/dataset")
    def dataset() -> Response:
        return not_available("downloading the dataset as an archive")


def serve_labels(
    routes: Routes,
    datastore: Datastore,
    read: FormReader,
    note: Callable[[str, str], None],
) -> None:
    """Add the routes for labels below /datastore/; `note` records actions on images."""

    def label_and_tag() -> tuple[str, str]:
        given = request.args
        label = given.get("label") or given.get("image") or given.get("id", "")
        return label, given.get("tag") or store.FINAL

    @routes.put("/datastore/label", read.body, scope=SAVE)
    def save_label() -> Response:
        form, (image, tag) = read(), label_and_tag()
        file = form.file("label") or form.file("file")
        if file is None:
            raise Malformed("the form has no file", "send one in the field 'label'")
        name, info = file.filename or "", form.json("params")
        datastore.save_label(image, tag, name, file.stream, info)
        note("save label", image)
        return as_json({"image": image, "label": image})

    @routes.get("/datastore/label")
    def label() -> Response:
        return send(datastore.label(*label_and_tag()))

    @routes.delete("/datastore/label", scope=SAVE)
    def remove_label() -> Response:
        image, tag = label_and_tag()
        datastore.remove_label(image, tag)
        note("delete label", image)
        return as_json({})

    @routes.get("/datastore/label/info")
    def label_info() -> Response:
        return as_json(datastore.label_info(*label_and_tag()))

    @routes.put("/datastore/label/info", read.body, scope=SAVE)
    @routes.put("/datastore/updatelabelinfo", read.body, scope=SAVE)
    def note_label() -> Response:
        form = read()
        field = "info" if "info" in form.fields else "params"
        datastore.update_label_info(*label_and_tag(), form.json(field))
        return as_json(None)
